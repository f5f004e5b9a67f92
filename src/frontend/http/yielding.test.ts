import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { Yielding } from "./yielding.ts";

test("a line of long requests gives way to arrivals, and passes all the same while these go on", async () => {
  let now = 0;
  const yielding = new Yielding(() => now);
  let begun = 0;
  const line = Array.from({ length: 2_000 }, async () => {
    await yielding.turn(0);
    begun += 1;
  });
  const turns = async (count: number): Promise<void> => {
    for (let turn = 0; turn < count; turn += 1) {
      yielding.arrived();
      now += 2;
      const before = begun;
      await nextTurn();
      assert.ok(begun - before <= 32, `${begun - before} in a turn`); // This test may take two of them.
    }
  };
  await turns(200);
  assert.ok(begun < 10, `${begun} have begun`);
  await turns(400);
  assert.equal(begun, line.length, `${begun} have begun`);
  await Promise.all(line);
});

test("a long request waits for one of each other route only", async () => {
  const yielding = new Yielding();
  let begun = 0;
  for (let n = 0; n < 100; n += 1) {
    void yielding.turn("a crowd's").then(() => (begun += 1));
  }
  await yielding.turn("another");
  assert.ok(begun <= 2, `${begun} have begun`);
});
