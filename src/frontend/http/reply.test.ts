import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { listenHere } from "../../../test/support/listen-here.ts";
import { untilTrue } from "../../../test/support/until.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { replyLongJson, replyPart } from "./reply.ts";

/** The answer with a value, and how often other work was done before it. */
async function answered(value: object): Promise<{ readonly text: string; readonly turns: number }> {
  let turns = 0;
  const server = createServer(async (_request, response) => {
    let isOver = false;
    const other = (): void => {
      turns += 1;
      if (!isOver) {
        setImmediate(other);
      }
    };
    other();
    await replyLongJson(response, value);
    isOver = true;
  });
  const port = await listenHere(server);
  try {
    const response = await fetch(`http://127.0.0.1:${port}/`);
    return { text: await response.text(), turns };
  } finally {
    server.close();
  }
}

test("a long answer is the same as a short one, and others are served between its parts", async () => {
  const list = Array.from({ length: 100 }, (_, index) => ({
    index,
    size: 2n ** 60n,
    text: "x".repeat(30_000),
  }));
  const object = { list, none: undefined, nothing: null, empty: [], text: "a" };
  const written = await answered({ list: list.values() });
  assert.equal(written.text, `${stringifyJson({ list })}\n`);
  assert.ok(written.turns > 5);
  for (const value of [list, object, [], {}]) {
    assert.equal((await answered(value)).text, `${stringifyJson(value)}\n`);
  }
  assert.ok((await answered(list)).turns > 5);
});

test("parts that clients do not read are bounded: who has waited longest is cut, and who reads is not", async () => {
  const part = Buffer.alloc(1024 ** 2);
  const signal = new AbortController().signal;
  const waiting: string[] = [];
  const server = createServer(async (request, response) => {
    response.on("close", () => waiting.splice(waiting.indexOf(request.url ?? ""), 1));
    waiting.push(request.url ?? "");
    for (let parts = 0; request.url !== "/read" || parts < 200; parts += 1) {
      await replyPart(response, part, signal);
    }
    response.end();
  });
  const port = await listenHere(server);
  const reading = await fetch(`http://127.0.0.1:${port}/read`);
  const clients = Array.from({ length: 150 }, (_, index) =>
    connect(port, "127.0.0.1")
      .on("error", () => {})
      .pause()
      .end(`GET /${index} HTTP/1.1\r\nHost: a\r\n\r\n`),
  );
  try {
    assert.equal((await reading.bytes()).length, 200 * part.length);
    await untilTrue(() => waiting.includes("/149") && !waiting.includes("/0") && waiting.length < 128);
    assert.ok(waiting.length > 30, `${waiting.length} are left`);
  } finally {
    for (const each of clients) {
      each.destroy();
    }
    server.close();
  }
});

test("few parts that a client does not read wait, however small they are, and all arrive once it reads", async (t) => {
  const { signal } = new AbortController();
  let waiting: ServerResponse | undefined;
  const server = createServer(async (_request, response) => {
    waiting = response;
    for (let parts = 0; parts < 50_000; parts += 1) {
      await replyPart(response, "x".repeat(100), signal);
    }
    response.end();
  });
  t.after(() => server.close());
  const port = await listenHere(server);
  const response = await fetch(`http://127.0.0.1:${port}/`);
  let most = 0;
  for (let turn = 0; turn < 1_000; turn += 1) {
    await nextTurn();
    most = Math.max(most, waiting?.writableLength ?? 0);
  }
  assert.ok(most > 0 && most < 3_000, `${most} bytes wait`);
  assert.equal((await response.bytes()).length, 5_000_000);
});

test("a part that waits for a client is given up when the client leaves", async (t) => {
  const end = new AbortController();
  const given = Promise.withResolvers<void>();
  let waiting: ServerResponse | undefined;
  const server = createServer(async (_request, response) => {
    waiting = response.on("close", () => end.abort(new Error("the client is gone")));
    try {
      for (;;) {
        await replyPart(response, "x".repeat(100), end.signal);
      }
    } catch (error) {
      given.reject(error);
    }
  });
  t.after(() => server.close());
  const port = await listenHere(server);
  const client = connect(port, "127.0.0.1").pause();
  client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await untilTrue(() => (waiting?.writableLength ?? 0) > 2_000);
  client.destroy();
  await assert.rejects(given.promise, /the client is gone/);
});
