import assert from "node:assert/strict";
import { test } from "node:test";

import { Slots } from "./slots.ts";

test("lines of the same rank take turns, however many wait in one", async () => {
  const slots = new Slots(1);
  const served: string[] = [];
  const first = await slots.enter();
  const enter = async (line: string): Promise<void> => {
    using _slot = await slots.enter({ line, order: () => 0 });
    served.push(line);
  };
  const all = [..."aaaab"].map(enter);
  first[Symbol.dispose]();
  await Promise.all(all);
  assert.deepEqual(served, [..."abaaa"]);
});

test("behind a crowd that waits in a line a newcomer does not, and neither does its first", async () => {
  const slots = new Slots(1);
  const first = await slots.enter();
  const served: number[] = [];
  const held: Disposable[] = [];
  const enter = async (n: number): Promise<void> => {
    held.push(await slots.enter({ line: "stop", order: () => 0 }));
    served.push(n);
  };
  const crowd = Array.from({ length: 1_000 }, (_, n) => enter(n));
  first[Symbol.dispose]();
  await crowd[0];
  crowd.push(enter(1_000));
  for (let n = 0; n < 3; n += 1) {
    held[n]?.[Symbol.dispose]();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(served, [0, 1_000, 1, 999]);
});
