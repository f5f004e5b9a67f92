/** Memory that work has left goes back to the machine. */
import assert from "node:assert/strict";
import { constants, type PerformanceNodeEntry } from "node:perf_hooks";
import { after, test } from "node:test";
import { setImmediate } from "node:timers/promises";

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
    await fillYoungGeneration();
    await untilTrue(() => asked.length === times);
  }
  assert.deepEqual(asked[0], { type: "major", execution: "sync", flavor: "last-resort" });
});

/** Makes objects until V8 collects some: its young generation may have become large by other tests. */
async function fillYoungGeneration(): Promise<void> {
  let collections = 0;
  const observer = new PerformanceObserver((list) => {
    const entries = list.getEntries() as PerformanceNodeEntry[];
    const isMinor = (detail: unknown): boolean =>
      (detail as { kind?: number }).kind === constants.NODE_PERFORMANCE_GC_MINOR;
    collections += entries.filter(({ detail }) => isMinor(detail)).length;
  });
  observer.observe({ entryTypes: ["gc"] });
  while (collections === 0) {
    const kept: object[] = [];
    for (let n = 0; n < 1_000_000; n += 1) {
      kept[n % 1_000] = { n };
    }
    await setImmediate();
  }
  observer.disconnect();
}
