import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { newId } from "../../common/ids.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { LargeCommits } from "./large-commits.ts";
import { openState } from "./state.ts";

const seconds = 20;

/** The commits of callers without a pause, as if the disk took no time. */
async function commitsOf(sizes: readonly number[]): Promise<number[]> {
  const clock = new ManualClock();
  const large = new LargeCommits(clock);
  const counts = sizes.map(() => 0);
  for (const [caller, bytes] of sizes.entries()) {
    const again = async (): Promise<never> => {
      for (;;) {
        await large.pace(bytes);
        counts[caller] = (counts[caller] ?? 0) + 1;
      }
    };
    void again();
  }
  await clock.advance(seconds * 1_000);
  return counts;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((all, number) => all + number, 0);

test("large commits write 16 MiB a second together, and smaller ones among them as much again at most", async () => {
  const flood = Array.from({ length: 20 }, () => 2 ** 20);
  const [middle = 0, ...written] = await commitsOf([2 ** 15, ...flood]);
  assert.ok(Math.abs(sum(written) - 16 * seconds) <= 2 * flood.length, `${sum(written)} MiB`);
  assert.ok(middle >= 20 * seconds && middle <= 512 * seconds, `${middle} commits of 32 KiB`);
});

test("callers with as large commits have as many", async () => {
  const written = await commitsOf(Array.from({ length: 64 }, () => 2 ** 18));
  assert.ok(Math.abs(sum(written) - 64 * seconds) <= 2 * written.length, `${sum(written)} times 256 KiB`);
  assert.ok(Math.max(...written) - Math.min(...written) <= 2, String(written));
});

test("a large commit resolves after its wait, a small one once it is durable", async (t) => {
  const waits = Promise.withResolvers<void>();
  const pace = t.mock.method(LargeCommits.prototype, "pace", (bytes: number) =>
    bytes > 2 ** 20 ? waits.promise : Promise.resolve(),
  );
  const state = await openState({ directory: scratchDirectory(), clock: new ManualClock() });
  const put = (bytes: number): Promise<void> => {
    const labels = { long: "x".repeat(bytes) };
    return state.commit((change) =>
      change.containers.put(create(ContainerRecordSchema, { id: newId(), config: { labels } })),
    );
  };
  let isOver = false;
  const large = put(2 ** 20).then(() => {
    isOver = true;
  });
  await put(100); // Durable with it, or later.
  await nextTurn();
  assert.deepEqual([isOver, pace.mock.callCount()], [false, 2]);
  waits.resolve();
  await large;
  await state.close();
});
