import assert from "node:assert/strict";
import { it } from "node:test";

import { StepPace } from "../concurrency/step-pace.ts";
import { type Hidden, lay, makeDirectory, type Node, put, fileSteps } from "./file-tree.ts";
import { implied } from "./indexed-file.ts";

const count = 50_000;
const file = { ...implied, type: "file" } as const;

/** Processor time of some work, in microseconds. */
async function costOf(work: () => void | Promise<void>): Promise<number> {
  const begun = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(begun);
  return user + system;
}

it("whiteouts cost as many steps as there are, not each as many as there are files", async () => {
  const below: Node = { file: implied };
  const above: Node = { file: implied };
  const hidden = new Map<Node, Hidden>();
  const made = await costOf(() => {
    for (let number = 0; number < count; number++) {
      put(makeDirectory(below, ["d", `${number}`]), "f", file);
      const isOpaque = number % 2 === 0;
      hidden.set(makeDirectory(above, ["d", ...(isOpaque ? [`${number}`] : [])]), {
        all: isOpaque,
        names: [],
      });
    }
    hidden.set(makeDirectory(above, ["d"]), {
      all: false,
      names: Array.from({ length: count / 2 }, (_, number) => `${2 * number + 1}`),
    });
  });
  const laid = await costOf(() => lay(below, above, hidden, new StepPace(fileSteps, AbortSignal.any([]))));
  const left = makeDirectory(below, ["d"]).children;
  assert.equal(left?.size, count / 2);
  assert.ok([...(left?.values() ?? [])].every(({ children }) => children === undefined));
  // If each looked at each they would be more than a thousand million steps.
  assert.ok(laid < 20 * made, `${laid} µs for whiteouts, ${made} µs for the files`);
});
