/** Memory that work has left goes back to the machine. */
import assert from "node:assert/strict";
import { after, test } from "node:test";

import { untilTrue } from "../../test/support/until.ts";
import { giveMemoryBackAfterWork } from "./give-memory-back.ts";

const { gc } = globalThis;
after(() => {
  globalThis.gc = gc;
});

test("memory is given back once for each time that work is done, by the collection that makes the young generation small", async () => {
  const asked: unknown[] = [];
  globalThis.gc = ((options: unknown) => {
    asked.push(options);
  }) as unknown as NonNullable<typeof gc>;
  giveMemoryBackAfterWork(1_000);
  for (const times of [1, 2]) {
    const kept: object[] = [];
    for (let n = 0; n < 1_000_000; n += 1) {
      kept[n % 1_000] = { n };
    }
    await untilTrue(() => asked.length === times);
  }
  assert.deepEqual(asked[0], { type: "major", execution: "sync", flavor: "last-resort" });
});
