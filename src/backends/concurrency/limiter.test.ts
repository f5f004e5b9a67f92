import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Limiter } from "./limiter.ts";

const never = new AbortController().signal;
const notWaiting = (): void => assert.fail("it waits");

describe("a limiter", () => {
  it("lets so many in, the next when one leaves, in order", async () => {
    const limiter = new Limiter(1);
    const first = await limiter.acquire("a", never, notWaiting);
    const order: string[] = [];
    const taken = async (name: string): Promise<Disposable> => {
      const turn = await limiter.acquire("a", never, () => order.push(`${name} waits`));
      order.push(name);
      return turn;
    };
    const [second, third] = [taken("second"), taken("third")];
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
    (await third)[Symbol.dispose]();
    assert.deepEqual(order, ["second waits", "third waits", "second", "third"]);
    (await limiter.acquire("a", never, notWaiting))[Symbol.dispose]();
  });

  it("counts each key by itself", async () => {
    const limiter = new Limiter(1);
    const first = await limiter.acquire("a", never, notWaiting);
    const other = await limiter.acquire("b", never, notWaiting);
    let waited = false;
    const second = limiter.acquire("a", never, () => {
      waited = true;
    });
    other[Symbol.dispose]();
    assert.ok(waited);
    first[Symbol.dispose]();
    (await second)[Symbol.dispose]();
  });

  it("forgets who stops waiting", async () => {
    const limiter = new Limiter(1);
    const first = await limiter.acquire("a", never, notWaiting);
    const abort = new AbortController();
    const left = limiter.acquire("a", abort.signal, () => {});
    abort.abort(new Error("left"));
    await assert.rejects(left, { message: "left" });
    first[Symbol.dispose]();
    (await limiter.acquire("a", never, notWaiting))[Symbol.dispose]();
  });
});
