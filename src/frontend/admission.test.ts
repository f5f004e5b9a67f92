import assert from "node:assert/strict";
import { once } from "node:events";
import fs from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { serveApi } from "../../test/support/docker-api.ts";
import { hijackRequest, RawClient } from "../../test/support/raw-client.ts";
import { until } from "../../test/support/until.ts";
import { systemClock } from "../common/clock.ts";
import { createLogger } from "../common/logger.ts";
import { ManualClock } from "../common/manual-clock.ts";
import { openFilesLimit } from "../common/open-files.ts";
import {
  Admission,
  type Admitted,
  mostConnections,
  type RequestKind,
  TooManyRequests,
  usualLimits,
} from "./admission.ts";
import type { Outcome } from "../agent-client/agent-stream.ts";
import { HijackedConnection } from "./hijack.ts";
import { routes as allRoutes } from "./route-table.ts";
import type { HijackRoute, ReplyRoute } from "./router.ts";
import type { HandOver } from "./streams/hand-over.ts";
import { StreamError, type StreamLink } from "./streams/stream-link.ts";
import { streamToClient } from "./streams/stream-to-client.ts";

const never = 2 ** 30;

const pings = allRoutes.filter(({ path }) => path === "/_ping");

function replyRoute(path: string, handler: ReplyRoute["handler"]): ReplyRoute {
  return { method: "GET", path, handler };
}

/** Asks for admission of calls, and tells which were let in, in order. */
function asking(admission: Admission) {
  const admitted: { readonly name: string; readonly turn: Admitted }[] = [];
  const ask = async (name: string): Promise<void> => {
    admitted.push({ name, turn: await admission.enter("call") });
  };
  return { admitted, ask, names: () => admitted.map(({ name }) => name) };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("the TLS terminator has descriptors for both ends of all connections", () => {
  assert.ok(2 * mostConnections(usualLimits()) < openFilesLimit());
});

test("requests of all kinds leave connections to others, however few descriptors there are", async (t) => {
  for (const limit of [1_024, 4_096, 20_000, 25_000, 1_048_576]) {
    const read = t.mock.method(fs, "readFileSync", () => `Max open files            ${limit}     ${limit}\n`);
    syncBuiltinESMExports();
    const limits = usualLimits();
    const [admission, connections] = [new Admission(limits), mostConnections(limits)];
    read.mock.restore();
    syncBuiltinESMExports();
    let admitted = 0;
    for (const kind of ["call", "exec", "stream", "session", "transfer"] as const) {
      for (let isOpen = true; isOpen && admitted <= connections; admitted += Number(isOpen)) {
        isOpen = await new Promise<boolean>((resolve) => {
          admission.enter(kind).catch(() => resolve(false));
          queueMicrotask(() => resolve(true));
        });
      }
    }
    assert.ok(admitted < 0.9 * connections, `${admitted} of ${connections} with ${limit}`);
  }
});

test("as many requests as there are places are worked on; the others follow in their order", async () => {
  const { admitted, ask, names } = asking(
    new Admission({ working: 2, workingMs: never, descriptors: 1_000 }),
  );
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

test("a request counts for as long as the backend is too busy to have had turns for it", async () => {
  const turns: PromiseWithResolvers<void>[] = [];
  const backendTurn = (): Promise<void> => {
    const turn = Promise.withResolvers<void>();
    turns.push(turn);
    return turn.promise;
  };
  const limits = { working: 1, workingMs: 1, backendTurn, descriptors: 1_000 };
  const { ask, names, admitted } = asking(new Admission(limits));
  const all = ["commit", "run", "list"].map(ask);
  for (let n = 1; n <= 16; n += 1) {
    await until(() => turns.length === n || undefined);
    assert.deepEqual(names(), ["commit"]);
    turns.at(-1)?.resolve();
  }
  await until(() => turns.length === 17 || undefined);
  assert.equal(admitted.length, 2);
  turns.at(-1)?.reject(new Error("the backend is gone"));
  await Promise.all(all);
});

test("requests of one route that take all places leave the next to one of another, as often as there is one", async () => {
  const admission = new Admission({ working: 8, workingMs: never, descriptors: 1_000 });
  const held: Admitted[] = [];
  const crowd = Array.from(
    { length: 100 },
    async () => void held.push(await admission.enter("exec", "start")),
  );
  await settle();
  assert.equal(held.length, 8);
  for (let n = 0; n < 3; n += 1) {
    const lists: string[] = [];
    const list = Promise.all(
      ["containers", "images"].map(async (name) => {
        using _turn = await admission.enter("call", name);
        lists.push(name);
      }),
    );
    for (const turn of held.splice(0)) {
      turn[Symbol.dispose]();
    }
    await settle();
    await settle();
    assert.deepEqual(lists, ["containers", "images"]);
    await list;
    await settle();
  }
  while (held.length > 0) {
    held.shift()?.[Symbol.dispose]();
    await settle();
  }
  await Promise.all(crowd);
});

test("a request that waits for something else gives its place away", async () => {
  const { ask, names, admitted } = asking(new Admission({ working: 1, workingMs: 1, descriptors: 1_000 }));
  await Promise.all(["a", "b", "c"].map(ask));
  assert.deepEqual(names(), ["a", "b", "c"]);
  for (const { turn } of admitted) {
    turn[Symbol.dispose]();
  }
});

test("each kind of request is refused beyond its part of the descriptors, and keeps no other out", async () => {
  const admission = new Admission({ working: 1_000, workingMs: never, descriptors: 160 });
  const most: Readonly<Record<RequestKind, number>> = {
    call: 30,
    exec: 30,
    stream: 40,
    session: 10, // Two descriptors each.
    transfer: 10,
  };
  using all = new DisposableStack();
  for (const [kind, count] of Object.entries(most) as [RequestKind, number][]) {
    const turns = await Promise.all(Array.from({ length: count }, () => admission.enter(kind)));
    for (const turn of turns) {
      all.use(turn);
    }
    turns[0]?.answers(); // It is under way all the same.
    await assert.rejects(admission.enter(kind), (error) => error instanceof TooManyRequests);
    turns[0]?.[Symbol.dispose]();
    turns[0]?.[Symbol.dispose](); // Once more is nothing.
    all.use(await admission.enter(kind));
    await assert.rejects(admission.enter(kind), (error) => error instanceof TooManyRequests);
  }
});

test("a flood of slow uploads, whatever calls they are, is refused beyond its part, and others are answered", async (t) => {
  const clock = new ManualClock();
  let reading = 0;
  const over = Promise.withResolvers<void>();
  const read: ReplyRoute["handler"] = async ({ response }) => {
    reading += 1;
    await over.promise;
    response.end();
  };
  const limits = { working: 256, workingMs: 250, descriptors: 160 };
  const api = await serveApi(
    t,
    () => {},
    [
      ...pings,
      { method: "POST", path: "/load", kind: "transfer", handler: read },
      { method: "POST", path: "/create", handler: read },
      replyRoute("/list", async ({ response }) => void response.end("list")),
    ],
    createLogger({ level: "silent", process: "test" }),
    clock,
    undefined,
    limits,
  );
  const post = (path: string, length: number): RawClient =>
    new RawClient(api.socket).send(`POST ${path} HTTP/1.1\r\nHost: d\r\nContent-Length: ${length}\r\n\r\n`);
  const flood = (path: string): RawClient[] => Array.from({ length: 40 }, () => post(path, 100));
  const refused = (clients: readonly RawClient[]): number =>
    clients.filter(({ header, ended }) => ended && header.startsWith("HTTP/1.1 503 ")).length;
  const loads = flood("/load");
  await until(() => refused(loads) === 30 || undefined);
  const creates = flood("/create");
  await until(() => clock.sleeping === creates.length || undefined);
  const inTwoPackets = post("/create", 2).send("{");
  await until(() => clock.sleeping === creates.length + 1 || undefined);
  inTwoPackets.send("}");
  assert.equal((await api.call("GET", "/list")).text, "list");
  await clock.advance(250);
  await until(() => refused(creates) === creates.length || undefined);
  await until(() => reading === 11 || undefined);
  for (let n = 0; n < 20; n++) {
    assert.equal((await api.call("GET", "/list")).text, "list");
    assert.equal((await api.call("GET", "/_ping")).status, 200);
  }
  over.resolve();
  for (const client of [...loads, ...creates, inTwoPackets]) {
    client.close();
  }
});

test("prunes of the build cache are refused beyond the part of calls, and pings are answered", async (t) => {
  const limits = { working: 256, workingMs: 250, descriptors: 16 };
  const logger = createLogger({ level: "silent", process: "test" });
  const over = Promise.withResolvers<void>();
  const routes = allRoutes
    .filter(({ path }) => path === "/build/prune")
    .map((route) => ({ ...route, hijack: false as const, handler: async () => await over.promise }));
  const api = await serveApi(t, () => {}, [...pings, ...routes], logger, systemClock, undefined, limits);
  const prune = (): RawClient =>
    new RawClient(api.socket).send("POST /build/prune HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n");
  const clients = Array.from({ length: 5 }, prune);
  await until(
    () => clients.filter(({ header }) => header.startsWith("HTTP/1.1 503 ")).length === 2 || undefined,
  );
  assert.equal((await api.call("GET", "/_ping")).status, 200);
  over.resolve();
  for (const client of clients) {
    client.close();
  }
});

test("an upload that an agent reads is under way until it is answered", async (t) => {
  const over = Promise.withResolvers<number>();
  let taken = 0;
  const handOver = { mayHandOver: () => true } as unknown as HandOver;
  const route: ReplyRoute = {
    method: "PUT",
    path: "/archive",
    kind: "transfer",
    handler: async ({ taken: upload, response }) => {
      await upload?.ended;
      response.end("unpacked");
    },
    handsOver: {
      part: "upload",
      take: async ({ connection }) => {
        taken += 1;
        return { connection, ended: over.promise, lose: () => {} };
      },
    },
  };
  const limits = { working: 256, workingMs: 250, descriptors: 160 };
  const logger = createLogger({ level: "silent", process: "test" });
  const api = await serveApi(t, () => {}, [route], logger, systemClock, handOver, limits);
  const put = (): RawClient =>
    new RawClient(api.socket).send("PUT /archive HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\n");
  const clients = Array.from({ length: 12 }, put);
  const answers = (status: number): number =>
    clients.filter(({ header }) => header.startsWith(`HTTP/1.1 ${status} `)).length;
  await until(() => answers(503) === 2 || undefined);
  await until(() => taken === 10 || undefined);
  over.resolve(0);
  await until(() => answers(200) === 10 || undefined);
  clients.push(put());
  await until(() => answers(200) === 11 || undefined);
  assert.equal(taken, 11);
  for (const client of clients) {
    client.close();
  }
});

test("a stream is under way until the agent that has its client is done, however it ends", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "agent-offers-"));
  t.after(() => rm(directory, { recursive: true }));
  const living = join(directory, "agent.sock");
  const agent = createServer().listen(living);
  t.after(() => agent.close());
  await once(agent, "listening");
  const ends: PromiseWithResolvers<Outcome>[] = [];
  let offeredAt = living;
  const handOver = { mayHandOver: () => false, give: async () => undefined } as unknown as HandOver;
  const unknown = (): Promise<never> => Promise.reject(new Error("the backend is gone"));
  const route: HijackRoute = {
    method: "POST",
    path: "/start",
    kind: "exec",
    hijack: true,
    async handler(context) {
      const end = Promise.withResolvers<Outcome>();
      ends.push(end);
      const link = { offer: { socket: offeredAt, token: "t" }, ended: end.promise } as unknown as StreamLink;
      const shown = { stdin: true, multiplexed: false, onExit: unknown, onCut: unknown, onDetach: unknown };
      await streamToClient(context, new HijackedConnection(context).accept(false), link, shown);
    },
  };
  const limits = { working: 256, workingMs: never, descriptors: 16 };
  const logger = createLogger({ level: "silent", process: "test" });
  const api = await serveApi(t, () => {}, [route], logger, systemClock, handOver, limits);
  const clients: RawClient[] = [];
  const started = async (): Promise<boolean> => {
    const client = new RawClient(api.socket).send(hijackRequest("/start"));
    clients.push(client);
    await client.answered();
    return client.header.startsWith("HTTP/1.1 101 ");
  };
  for (let n = 0; n < 3; n++) {
    assert.ok(await started());
  }
  assert.equal(await started(), false);
  const lost = new StreamError({ kind: "unavailable", message: "the agent was silent", exitCode: 0 });
  const endings: readonly ((end: PromiseWithResolvers<Outcome> | undefined) => void)[] = [
    (end) => end?.resolve({ kind: "detached" }),
    (end) => end?.resolve({ kind: "exit", exitCode: 0 }), // It cannot be recorded.
    (end) => end?.reject(lost), // Its agent lives.
  ];
  for (const [at, finish] of endings.entries()) {
    offeredAt = at === endings.length - 1 ? join(directory, "dead.sock") : living;
    finish(ends[at]);
    await until(async () => (await started()) || undefined);
    assert.equal(await started(), false);
  }
  ends.at(-1)?.reject(lost);
  await until(async () => (await started()) || undefined);
  assert.equal(await started(), false);
  for (const client of clients) {
    client.close();
  }
});

test("of more connections than there are descriptors the one goes that is idle for longest", async (t) => {
  const over = Promise.withResolvers<void>();
  const route = replyRoute("/follow", async ({ response }) => {
    response.writeHead(200);
    response.flushHeaders();
    await over.promise;
    response.end();
  });
  const limits = { working: 256, workingMs: 250, descriptors: 40 };
  const logger = createLogger({ level: "silent", process: "test" });
  const api = await serveApi(t, () => {}, [...pings, route], logger, systemClock, undefined, limits);
  const follower = new RawClient(api.socket);
  follower.send("GET /follow HTTP/1.1\r\nHost: d\r\n\r\n");
  await follower.answered();
  const idle = Array.from({ length: 100 }, () => new RawClient(api.socket));
  const gone = (): number => idle.filter(({ ended }) => ended).length;
  await until(() => gone() === 61 || undefined);
  assert.equal((await api.call("GET", "/_ping")).status, 200);
  await until(() => gone() === 62 || undefined);
  assert.equal(
    idle.findLastIndex(({ ended }) => ended),
    61,
  );
  assert.equal(follower.ended, false);
  over.resolve();
  for (const client of [...idle, follower]) {
    client.close();
  }
});

test("requests to hijack whose bodies never come keep nobody waiting, and have their share of connections", async (t) => {
  const route: HijackRoute = {
    ...{ method: "POST", path: "/start", kind: "exec", hijack: true },
    async handler(context) {
      const connection = new HijackedConnection(context);
      const body = connection.readJson();
      connection.accept(false).end(JSON.stringify(body));
    },
  };
  const limits = { working: 1, workingMs: never, descriptors: 32 };
  const logger = createLogger({ level: "silent", process: "test" });
  const api = await serveApi(t, () => {}, [route], logger, systemClock, undefined, limits);
  const clients: RawClient[] = [];
  t.after(() => clients.map((client) => client.close()));
  const start = (framing: string, ...packets: readonly string[]): RawClient => {
    const header = `POST /start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n${framing}\r\n\r\n`;
    const client = new RawClient(api.socket);
    clients.push(client);
    return [header, ...packets].reduce((sending, packet) => sending.send(packet), client);
  };
  const [length, chunked] = ["Content-Length: 7", "Transfer-Encoding: chunked"];
  const share = 6;
  const waiting = [start(length, '{"a":'), start(chunked, '7\r\n{"a":'), start(chunked)];
  const answered = [start(length, '{"a":1}'), start(chunked, '7\r\n{"a":1}\r\n0\r\n\r\n')];
  for (const client of answered) {
    await client.says('{"a":1}');
    client.close();
  }
  for (let n = waiting.length; n < share; n += 1) {
    start(length);
  }
  assert.match(await start(length, '{"a":1}').answered(), /^HTTP\/1.1 503 /);
  await waiting[0]?.send("1}").says('{"a":1}');
  await start(length, '{"a":1}').says('{"a":1}');
});

test("followers begin after who connects behind them is answered", async (t) => {
  let begun = 0;
  const over = Promise.withResolvers<void>();
  const follow: ReplyRoute = {
    ...replyRoute("/follow", async ({ response }) => {
      begun += 1;
      await over.promise;
      response.end();
    }),
    kind: "stream",
  };
  const { mock } = t.mock.method(performance, "now", () => 0); // Nobody has waited for long, on whatever machine.
  const api = await serveApi(t, () => {}, [...pings, follow]);
  const followers = Array.from({ length: 500 }, () => new RawClient(api.socket));
  for (const follower of followers) {
    follower.send("GET /follow HTTP/1.1\r\nHost: d\r\n\r\n");
  }
  assert.equal((await api.call("GET", "/_ping")).status, 200);
  assert.ok(begun < followers.length / 10, `${begun} have begun`);
  mock.restore();
  await until(() => begun === followers.length || undefined);
  over.resolve();
  for (const follower of followers) {
    follower.close();
  }
});

test("requests that somebody else may answer take turns too", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] }); // No turn ends by itself.
  const came = new Set<unknown>();
  const handOver = { mayHandOver: (request: unknown) => came.add(request).size > 0 } as unknown as HandOver;
  let asked = 0;
  const over = Promise.withResolvers<undefined>();
  const route: ReplyRoute = {
    method: "GET",
    path: "/held",
    handler: async ({ response }) => void response.end("here"),
    handsOver: {
      part: "answer",
      call: async () => {
        asked += 1;
        return await over.promise;
      },
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
  assert.equal(asked, 32);
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
