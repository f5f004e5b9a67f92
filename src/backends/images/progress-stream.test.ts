import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { ReportProgress } from "./progress.ts";
import { messagesOfTurn, mostLines, type ProgressMessage, progressStream } from "./progress-stream.ts";

const signal = new AbortController().signal;
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function drain<T>(stream: AsyncGenerator<ProgressMessage, T>) {
  const lines: unknown[] = [];
  for (let messages = 0; ; messages++) {
    const next = await stream.next();
    if (next.done === true) {
      return { lines, messages, result: next.value };
    }
    assert.ok(next.value.kind === "progress");
    lines.push(...next.value.lines);
  }
}

describe("a stream of progress", () => {
  it("yields every line and returns the result", async () => {
    const stream = progressStream(async (report) => {
      report({ id: "a", status: "one" });
      report({ id: "b", status: "one" });
      await tick();
      report({ id: "a", status: "two" });
      return 7;
    }, signal);
    assert.deepEqual(await drain(stream), {
      lines: [
        { id: "a", status: "one" },
        { id: "b", status: "one" },
        { id: "a", status: "two" },
      ],
      messages: 2,
      result: 7,
    });
  });

  it("yields the lines of 125 layers that come together in one message", async () => {
    const layers = Array.from({ length: 125 }, (_, n) => ({ id: `${n}`, status: "Pull complete" }));
    const stream = progressStream(async (report) => layers.forEach(report), signal);
    assert.deepEqual(await drain(stream), { lines: layers, messages: 1, result: undefined });
  });

  it("yields what was reported before it throws the work's error", async () => {
    const stream = progressStream(async (report) => {
      report({ id: "a", status: "one" });
      throw new Error("failed");
    }, signal);
    assert.equal((await stream.next()).done, false);
    await assert.rejects(stream.next(), { message: "failed" });
  });

  it("spares a slow reader the lines of a layer that newer ones have overtaken", async () => {
    const stream = progressStream(async (report) => {
      for (let current = 0; current <= 1000; current++) {
        report({ id: "a", status: "Downloading", current, total: 1000 });
        report({ id: "b", status: "Downloading", current, total: 1000 });
      }
      report({ id: "a", status: "Pull complete" });
    }, signal);
    const { lines } = await drain(stream);
    assert.deepEqual(lines, [
      { id: "a", status: "Pull complete" },
      { id: "b", status: "Downloading", current: 1000, total: 1000 },
    ]);
  });

  it("spares a slow reader the byte counts of an import that newer ones have overtaken", async () => {
    const stream = progressStream(async (report) => {
      report({ id: "", status: "Downloading from a URL" });
      for (let current = 0; current <= 2 * mostLines; current++) {
        report({ id: "", status: "Importing", current });
      }
    }, signal);
    const { lines } = await drain(stream);
    assert.deepEqual(lines, [
      { id: "", status: "Downloading from a URL" },
      { id: "", status: "Importing", current: 2 * mostLines },
    ]);
  });

  it("keeps the newest lines for a reader that is slower than the work", async () => {
    const reported = 3 * mostLines;
    const stream = progressStream(async (report) => {
      for (let n = 0; n < reported; n++) {
        report({ id: "", status: `${n}` });
      }
    }, signal);
    const { lines } = await drain(stream);
    assert.equal(lines.length, mostLines);
    assert.deepEqual(lines.at(-1), { id: "", status: `${reported - 1}` });
  });

  it("shares each turn of the event loop with all others", async () => {
    let [messages, most, isOver] = [0, 0, false];
    const turn = (): void => {
      most = Math.max(most, messages);
      messages = 0;
      if (!isOver) {
        setImmediate(turn);
      }
    };
    setImmediate(turn);
    const drained = Array.from({ length: 100 }, async () => {
      const stream = progressStream(async (report) => {
        for (let n = 0; n < 20; n++) {
          report({ id: "", status: `${n}` });
        }
      }, signal);
      for await (const _ of stream) {
        messages += 1;
      }
    });
    await Promise.all(drained);
    isOver = true;
    assert.ok(most > 0 && most <= 2 * messagesOfTurn, `${most} messages in a turn`);
  });

  it("aborts the work, and waits for it, when its reader leaves", async () => {
    let ended = false;
    const stream = progressStream(async (report: ReportProgress, left: AbortSignal) => {
      report({ id: "", status: "begun" });
      await new Promise((resolve) => left.addEventListener("abort", resolve));
      await tick();
      ended = true;
    }, signal);
    await stream.next();
    await stream.return(undefined);
    assert.ok(ended);
  });

  it("sends heartbeats while the work is silent", async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    const work = Promise.withResolvers<void>();
    const stream = progressStream(() => work.promise, signal);
    const first = stream.next();
    context.mock.timers.tick(15_000);
    assert.deepEqual(await first, { done: false, value: { kind: "heartbeat" } });
    const last = stream.next();
    work.resolve();
    assert.deepEqual(await last, { done: true, value: undefined });
  });
});
