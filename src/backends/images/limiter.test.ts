import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Limiter } from "./limiter.ts";

const never = new AbortController().signal;

describe("a limiter", () => {
  it("lets so many in, the next when one leaves, in order", async () => {
    const limiter = new Limiter(1);
    const first = await limiter.acquire(never);
    assert.ok(limiter.isBusy);
    const order: string[] = [];
    const second = limiter.acquire(never).then((turn) => {
      order.push("second");
      return turn;
    });
    const third = limiter.acquire(never).then((turn) => {
      order.push("third");
      return turn;
    });
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
    (await third)[Symbol.dispose]();
    assert.deepEqual(order, ["second", "third"]);
    assert.equal(limiter.isBusy, false);
  });

  it("forgets who stops waiting", async () => {
    const limiter = new Limiter(1);
    const first = await limiter.acquire(never);
    const abort = new AbortController();
    const left = limiter.acquire(abort.signal);
    abort.abort(new Error("left"));
    await assert.rejects(left, { message: "left" });
    first[Symbol.dispose]();
    assert.equal(limiter.isBusy, false);
  });
});
