import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { unlessAborted } from "./unless-aborted.ts";

describe("a wait for work that goes on", () => {
  const never = new AbortController().signal;

  it("has the work's result, also where that is there already", async () => {
    const work = Promise.resolve(1);
    assert.deepEqual([await unlessAborted(never, work), await unlessAborted(never, work)], [1, 1]);
    const failed = Promise.reject(new Error("no room"));
    await assert.rejects(unlessAborted(never, failed), /no room/);
    await assert.rejects(unlessAborted(never, failed), /no room/);
  });

  it("of many has it each, but for those who have left", async () => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const left = new AbortController();
    const waits = [never, left.signal, never].map((signal) => unlessAborted(signal, promise));
    const outcomes = Promise.allSettled(waits);
    left.abort(new Error("the client is gone"));
    resolve(2);
    assert.deepEqual(
      (await outcomes).map((outcome) => (outcome.status === "fulfilled" ? outcome.value : "left")),
      [2, "left", 2],
    );
    await assert.rejects(unlessAborted(left.signal, promise), /the client is gone/);
  });

  it("leaves nothing with the work", async ({ mock }) => {
    const { promise: work } = Promise.withResolvers<void>();
    const { mock: reactions } = mock.method(work, "then");
    for (let call = 0; call < 100; call++) {
      const left = new AbortController();
      const wait = unlessAborted(left.signal, work);
      left.abort();
      await assert.rejects(wait, { name: "AbortError" });
    }
    assert.equal(reactions.callCount(), 1);
  });
});
