import assert from "node:assert/strict";
import { it } from "node:test";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import type { LogPiece } from "../contract/cloud-log.ts";
import { streamLog } from "./stream-log.ts";

const { signal } = new AbortController();
const whole = { tail: undefined, sinceNs: undefined };

it("the cloud's log is read for few users at a time, and at once for the end of a run", async () => {
  const pages = Promise.withResolvers<void>();
  let calls = 0;
  const log = streamLog({
    streamsOf: () => ["task"],
    async page({ backward }) {
      if (backward) {
        return { events: [{ message: "[sockerless] exit", timeNs: 2n }], next: undefined };
      }
      calls++;
      await pages.promise;
      return { events: [{ message: "[stdout] line", timeNs: 1n }], next: undefined };
    },
  });
  const readers = Array.from({ length: 200 }, () => Array.fromAsync(log.lines("c", whole, signal)));
  await setImmediate();
  assert.equal(calls, 8);
  assert.deepEqual(await Array.fromAsync(log.agentLines("c", signal)), ["exit"]);
  pages.resolve();
  const lines = await Promise.all(readers);
  assert.deepEqual(new Set(lines.map(({ length }) => length)), new Set([1]));
});

it("readers who do not go on hold little of the cloud's log, and read the rest when they do", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const heapMiB = (): number => {
    collectGarbage();
    return process.memoryUsage().heapUsed / 2 ** 20;
  };
  const [pages, lines] = [2, 200];
  /** Pages of 2 MiB. */
  const log = streamLog<number>({
    streamsOf: () => ["task"],
    async page({ backward, cursor = 0 }) {
      const events = Array.from({ length: lines }, (_, index) => ({
        message: `[stdout] ${cursor}/${index} ${"x".repeat(10_000)}`.replace("/", ":"),
        timeNs: BigInt(cursor * lines + index),
      }));
      const next = cursor + 1 < pages && !backward ? cursor + 1 : undefined;
      return { events: backward ? events.reverse() : events, next };
    },
  });
  const namesOf = (pieces: readonly LogPiece[]): string[] =>
    pieces.map(({ data }) => Buffer.from(data).toString().split(" ")[0] ?? "");
  const names = Array.from({ length: pages * lines }, (_, at) => `${Math.floor(at / lines)}:${at % lines}`);

  const before = heapMiB();
  const open = async (tail?: bigint) => {
    const reader = log.lines("c", { ...whole, tail }, signal)[Symbol.asyncIterator]();
    return { reader, first: await reader.next() };
  };
  const begun = [];
  for (let count = 0; count < 60; count++) {
    begun.push(await open(), await open(100n));
  }
  const held = heapMiB() - before;
  assert.ok(held < 50, `${begun.length} readers hold ${held} MiB`);

  for (const { reader, first } of [begun[0], begun.at(-2)].filter((each) => each !== undefined)) {
    const rest = await Array.fromAsync({ [Symbol.asyncIterator]: () => reader });
    assert.deepEqual(namesOf([first.value as LogPiece, ...rest]), names);
  }
  assert.deepEqual(namesOf(await Array.fromAsync(log.lines("c", whole, signal))), names);
  assert.deepEqual(
    namesOf(await Array.fromAsync(log.lines("c", { ...whole, tail: 3n }, signal))),
    names.slice(lines - 3, lines),
  );
});
