import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../common/manual-clock.ts";
import { withHeartbeats } from "./heartbeats.ts";

/** A source that gives what it is told to. */
function controlledSource() {
  const queue: string[] = [];
  let wake = Promise.withResolvers<void>();
  let isOver = false;
  async function* source(): AsyncGenerator<string> {
    for (;;) {
      yield* queue.splice(0);
      if (isOver) {
        return;
      }
      await wake.promise;
      wake = Promise.withResolvers<void>();
    }
  }
  return {
    source: source(),
    send: (message: string) => {
      queue.push(message);
      wake.resolve();
    },
    end: () => {
      isOver = true;
      wake.resolve();
    },
  };
}

describe("a stream with heartbeats", () => {
  it("beats after ten silent seconds, counted from the last message", async () => {
    const clock = new ManualClock();
    const { source, send, end } = controlledSource();
    const got: string[] = [];
    const reading = (async () => {
      for await (const message of withHeartbeats(source, () => "beat", clock, new AbortController().signal)) {
        got.push(message);
      }
    })();
    await clock.advance(6_000);
    send("a");
    await clock.advance(0);
    await clock.advance(6_000);
    assert.deepEqual(got, ["a"]);
    await clock.advance(4_500);
    assert.deepEqual(got, ["a", "beat"]);
    await clock.advance(10_000);
    assert.deepEqual(got, ["a", "beat", "beat"]);
    send("b");
    end();
    await reading;
    assert.deepEqual(got, ["a", "beat", "beat", "b"]);
    assert.equal(clock.sleeping, 0);
  });

  it("gives every message of a source that is faster than its reader", async () => {
    async function* numbers(): AsyncGenerator<number> {
      for (let n = 0; n < 1000; n++) {
        yield n;
      }
    }
    const got: number[] = [];
    const stream = withHeartbeats(numbers(), () => -1, new ManualClock(), new AbortController().signal);
    for await (const n of stream) {
      got.push(n);
    }
    assert.deepEqual(got, [...Array(1000).keys()]);
  });

  it("ends with the signal's reason, and with the source's error", async () => {
    const { source } = controlledSource();
    const leaving = new AbortController();
    const clock = new ManualClock();
    const reading = (async () => {
      for await (const _ of withHeartbeats(source, () => "beat", clock, leaving.signal)) {
        // Nothing comes.
      }
    })();
    leaving.abort(new Error("the client left"));
    await assert.rejects(reading, /the client left/);
    assert.equal(clock.sleeping, 0);

    const broken: AsyncIterable<string> = {
      [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new Error("broken")) }),
    };
    const stream = withHeartbeats(broken, () => "beat", clock, new AbortController().signal);
    await assert.rejects(stream.next(), /broken/);
  });
});
