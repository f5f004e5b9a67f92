import assert from "node:assert/strict";
import { test } from "node:test";

import { serveApi } from "../../test/support/docker-api.ts";
import { RawClient } from "../../test/support/raw-client.ts";
import { until } from "../../test/support/until.ts";
import { systemClock } from "../common/clock.ts";
import { isErrorKind } from "../common/errors.ts";
import { createLogger } from "../common/logger.ts";
import { Admission, type Admitted } from "./admission.ts";
import { builtBackends, type ReplyRoute } from "./router.ts";
import type { HandOver } from "./streams/hand-over.ts";

const never = 2 ** 30;

/** Asks for admission, and tells which were let in, in order. */
function asking(admission: Admission) {
  const admitted: { readonly name: string; readonly turn: Admitted }[] = [];
  const ask = async (name: string): Promise<void> => {
    admitted.push({ name, turn: await admission.enter() });
  };
  return { admitted, ask, names: () => admitted.map(({ name }) => name) };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("as many requests as there are places are worked on; the others follow in their order", async () => {
  const { admitted, ask, names } = asking(new Admission({ working: 2, workingMs: never, underWay: 10 }));
  const all = ["a", "b", "c", "d"].map(ask);
  await settle();
  assert.deepEqual(names(), ["a", "b"]);
  admitted[1]?.turn[Symbol.dispose]();
  await settle();
  assert.deepEqual(names(), ["a", "b", "c"]);
  admitted[0]?.turn.answers(); // It follows something from now on.
  admitted[0]?.turn.answers();
  await Promise.all(all);
  assert.deepEqual(names(), ["a", "b", "c", "d"]);
  for (const { turn } of admitted) {
    turn[Symbol.dispose]();
  }
});

test("a request that waits for something else gives its place away", async () => {
  const { ask, names, admitted } = asking(new Admission({ working: 1, workingMs: 1, underWay: 10 }));
  await Promise.all(["a", "b", "c"].map(ask));
  assert.deepEqual(names(), ["a", "b", "c"]);
  for (const { turn } of admitted) {
    turn[Symbol.dispose]();
  }
});

test("more requests than may be under way are refused, until one of them has ended", async () => {
  const { admitted, ask, names } = asking(new Admission({ working: 5, workingMs: never, underWay: 2 }));
  await Promise.all([ask("a"), ask("b")]);
  admitted[0]?.turn.answers();
  await assert.rejects(ask("c"), (error) => isErrorKind(error, "unavailable"));
  admitted[0]?.turn[Symbol.dispose]();
  await ask("d");
  assert.deepEqual(names(), ["a", "b", "d"]);
  for (const { turn } of admitted) {
    turn[Symbol.dispose]();
  }
});

test("requests that somebody else may answer take turns too", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] }); // No turn ends by itself.
  const came = new Set<unknown>();
  const handOver = { mayHold: (request: unknown) => came.add(request).size > 0 } as unknown as HandOver;
  let asked = 0;
  const over = Promise.withResolvers<undefined>();
  const route: ReplyRoute = {
    method: "GET",
    path: "/held",
    answeredBy: builtBackends,
    handler: async ({ response }) => void response.end("here"),
    held: {
      takes: () => true,
      call: async () => {
        asked += 1;
        return await over.promise;
      },
      contentType: () => "text/plain",
    },
  };
  const logger = createLogger({ level: "silent", process: "test" });
  const api = await serveApi(t, () => {}, [route], logger, systemClock, handOver);
  const clients = Array.from({ length: 300 }, () => new RawClient(api.socket));
  for (const client of clients) {
    client.send("GET /held HTTP/1.1\r\nHost: d\r\n\r\n");
  }
  while (came.size < clients.length) {
    await settle();
  }
  await settle();
  assert.equal(asked, 256);
  over.resolve(undefined);
  while (asked < clients.length) {
    await settle();
  }
  t.mock.timers.reset();
  for (const client of clients) {
    client.close();
  }
});

test("a thousand requests that follow something keep nobody from being answered", async (t) => {
  let following = 0;
  const over = Promise.withResolvers<void>();
  const route = (path: string, handler: ReplyRoute["handler"]): ReplyRoute => ({
    method: "GET",
    path,
    answeredBy: builtBackends,
    handler,
  });
  const api = await serveApi(t, () => {}, [
    route("/follow", async ({ response }) => {
      response.writeHead(200);
      response.flushHeaders();
      following += 1;
      await over.promise;
      response.end();
    }),
    route("/list", async ({ response }) => void response.end("list")),
  ]);
  const followers = Array.from({ length: 1000 }, () => new RawClient(api.socket));
  for (const follower of followers) {
    follower.send("GET /follow HTTP/1.1\r\nHost: d\r\n\r\n");
  }
  await until(() => following === followers.length || undefined);
  assert.equal((await api.call("GET", "/list")).text, "list");
  over.resolve();
  for (const follower of followers) {
    follower.close();
  }
});
