import assert from "node:assert/strict";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";

import { garbageCollection } from "../../../test/support/garbage-collection.ts";
import type { ReplyContext } from "../request-context.ts";
import { inTurn } from "./in-turn.ts";

const contextOf = (url: string, query: string, signal: AbortSignal): ReplyContext =>
  ({
    request: { url },
    parameters: { id: decodeURIComponent(url.split(/[/?]/)[1] ?? "") },
    query: new URLSearchParams(query),
    signal,
  }) as unknown as ReplyContext;

test("two answers of an endpoint are made at once, or more where they take over ten seconds or have sizes", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const begun: PromiseWithResolvers<void>[] = [];
  const left = new AbortController();
  const handle = inTurn(async () => {
    begun.push(Promise.withResolvers());
    await begun.at(-1)?.promise;
  });
  const ask = (query = "") => handle(contextOf("/list", query, left.signal));
  const answers = Array.from({ length: 6 }, () => ask());
  const isBegun = async (count: number) => {
    await turn();
    await turn(); // The next is served in a turn of its own.
    assert.equal(begun.length, count);
  };
  await isBegun(2);
  begun[0]?.resolve();
  await isBegun(3);
  begun[1]?.reject(new Error("no backend"));
  await assert.rejects(answers[1] ?? Promise.resolve(), /no backend/);
  await isBegun(4);
  t.mock.timers.tick(10_000);
  await isBegun(6);
  begun[2]?.resolve();
  await isBegun(6);
  answers.push(ask("size=1"));
  await isBegun(7); // All turns are taken.
  for (const each of begun) {
    each.resolve();
  }
  await Promise.allSettled(answers);
});

test("a client that leaves gives its turn to the next", async () => {
  const clients = Array.from({ length: 5 }, () => new AbortController());
  const over = Promise.withResolvers<void>();
  const begun: AbortSignal[] = [];
  const handle = inTurn(async ({ signal }) => {
    begun.push(signal);
    await over.promise;
  });
  const answers = clients.map(({ signal }) => handle(contextOf("/list", "", signal)));
  for (const waiting of clients.slice(2, 4)) {
    waiting.abort(new Error("left"));
  }
  over.resolve();
  const outcomes = await Promise.allSettled(answers);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ["fulfilled", "fulfilled", "rejected", "rejected", "fulfilled"],
  );
  assert.deepEqual(
    begun,
    [0, 1, 4].map((index) => clients[index]?.signal),
  );
});

test("one answer is made in order of arrival, and one of those that take the shortest", async () => {
  const { signal } = new AbortController();
  const made: string[] = [];
  const under: PromiseWithResolvers<void>[] = [];
  const handle = inTurn(async ({ request }) => {
    made.push(String(request.url));
    if (made.length <= 4) {
      await sleep(request.url === "/long" ? 50 : 0);
      return;
    }
    under.push(Promise.withResolvers());
    await under.at(-1)?.promise;
  });
  const ask = (url: string) => handle(contextOf(url, "", signal));
  for (const url of ["/long", "/short?a", "/short?b", "/short?b"]) {
    await ask(url);
  }
  made.length = 4;
  const urls = ["/long", "/long?other", "/long", "/short?a", "/unknown", "/long", "/short?b"];
  const answers = urls.map(ask);
  const next = async (slot: number) => {
    under[slot]?.resolve();
    await turn();
    await turn(); // The next is served in a turn of its own.
    return made.at(-1);
  };
  assert.deepEqual(await next(-1), "/long?other");
  assert.deepEqual(await next(1), "/unknown");
  assert.deepEqual([await next(2), await next(3)].sort(), ["/short?a", "/short?b"]);
  assert.deepEqual([await next(0), await next(5)], ["/long", "/long"]);
  for (const each of under) {
    each.resolve();
  }
  await Promise.all(answers);
});

test("long names of those who left while they were asked for are not kept", async () => {
  let left = new AbortController();
  const handle = inTurn(() => {
    left.abort(new Error("the client is gone"));
    return Promise.reject(new Error("the client is gone"));
  });
  const heapBefore = usedHeap();
  for (let n = 0; n < 100; n++) {
    left = new AbortController();
    const name = Buffer.alloc(2 ** 20, "x").toString();
    await assert.rejects(handle(contextOf(`/${n}${name}`, "", left.signal)));
  }
  assert.ok(usedHeap() - heapBefore < 20 * 2 ** 20);
});

function usedHeap(): number {
  garbageCollection()();
  return process.memoryUsage().heapUsed;
}
