import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Lock } from "./serial.ts";

describe("a lock", () => {
  it("runs tasks one after the other, in their order, also after failures", async () => {
    const lock = new Lock();
    const log: string[] = [];
    const task = (name: string) => async (): Promise<string> => {
      log.push(`${name} begins`);
      await new Promise(setImmediate);
      log.push(`${name} ends`);
      if (name === "b") {
        throw new Error("b");
      }
      return name;
    };
    const results = await Promise.allSettled(["a", "b", "c"].map((name) => lock.run(task(name))));
    assert.deepEqual(
      results.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.deepEqual(log, ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  });

  it("keeps nothing of a task whose wait is ended, and runs those behind it", async () => {
    const lock = new Lock();
    const held = Promise.withResolvers<void>();
    const first = lock.run(() => held.promise);
    const left = new AbortController();
    const log: string[] = [];
    const dropped = lock.run(async () => void log.push("dropped"), left.signal);
    const last = lock.run(async () => void log.push("last"));
    left.abort(new Error("left"));
    await assert.rejects(dropped, /left/);
    held.resolve();
    await Promise.all([first, last]);
    assert.deepEqual(log, ["last"]);
    await lock.run(async () => void log.push("again"), new AbortController().signal);
    assert.deepEqual(log, ["last", "again"]);
  });
});
