import assert from "node:assert/strict";
import { it } from "node:test";

import { type Hidden, lay, makeDirectory, type Node, put } from "./file-tree.ts";
import { implied } from "./indexed-file.ts";

const count = 50_000;
const file = { ...implied, type: "file" } as const;

/** Processor time of some work, in microseconds. */
function costOf(work: () => void): number {
  const begun = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(begun);
  return user + system;
}

it("whiteouts cost as many steps as there are, not each as many as there are files", () => {
  const below: Node = { file: implied };
  const above: Node = { file: implied };
  const hidden = new Map<Node, Hidden>();
  const made = costOf(() => {
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
  const laid = costOf(() => lay(below, above, hidden));
  const left = makeDirectory(below, ["d"]).children;
  assert.equal(left?.size, count / 2);
  assert.ok([...(left?.values() ?? [])].every(({ children }) => children === undefined));
  // If each looked at each they would be more than a thousand million steps.
  assert.ok(laid < 20 * made, `${laid} µs for whiteouts, ${made} µs for the files`);
});
