import assert from "node:assert/strict";
import { it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { streamLog } from "./stream-log.ts";

it("the cloud's log is read for few users at a time, and at once for the end of a run", async () => {
  const pages = Promise.withResolvers<void>();
  let calls = 0;
  const log = streamLog({
    streamsOf: () => ["task"],
    async *forward() {
      calls++;
      await pages.promise;
      yield { message: "[stdout] line", timeNs: 1n };
    },
    async *backward() {
      yield { message: "[sockerless] exit", timeNs: 2n };
    },
  });
  const { signal } = new AbortController();
  const range = { tail: undefined, sinceNs: undefined };
  const readers = Array.from({ length: 200 }, () => Array.fromAsync(log.lines("c", range, signal)));
  await setImmediate();
  assert.equal(calls, 8);
  assert.deepEqual(await Array.fromAsync(log.agentLines("c", signal)), ["exit"]);
  pages.resolve();
  const lines = await Promise.all(readers);
  assert.deepEqual(new Set(lines.map(({ length }) => length)), new Set([1]));
});
