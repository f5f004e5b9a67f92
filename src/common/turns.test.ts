import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { Turns } from "./turns.ts";

/** Lets microtasks run, and nothing else. */
async function settle(): Promise<void> {
  for (let n = 0; n < 100; n++) {
    await Promise.resolve();
  }
}

test("as many steps as a turn has begin in it, the others in later ones and in order", async () => {
  const turns = new Turns(4);
  const begun: number[] = [];
  const all = Array.from({ length: 10 }, async (_, n) => {
    await turns.next();
    begun.push(n);
  });
  await settle();
  const counts = [begun.length];
  while (begun.length < all.length) {
    await nextTurn();
    await settle();
    counts.push(begun.length);
  }
  await Promise.all(all);
  assert.deepEqual(
    begun,
    all.map((_, n) => n),
  );
  assert.ok(
    counts.every((count, n) => count - (counts[n - 1] ?? 0) <= 4),
    `${counts}`,
  );
});

test("who asks again and again within a turn waits, too", async () => {
  const turns = new Turns(4);
  let begun = 0;
  const done = (async () => {
    for (; begun < 10; begun++) {
      await turns.next();
    }
  })();
  await settle();
  assert.equal(begun, 4);
  await done;
});
