import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ClientHttp2Stream, type ServerHttp2Session } from "node:http2";
import { createServer as createSocketServer } from "node:net";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { answerInBytes } from "../../test/support/frame-by-frame-agent.ts";
import { until } from "../../test/support/until.ts";
import { ByteBudget } from "../common/byte-budget.ts";
import { AgentConnection } from "./connection.ts";
import { ConnectionPool } from "./connection-pool.ts";

interface Peer {
  readonly path: string;
  readonly sessions: ServerHttp2Session[];
}

/** A server whose streams stay open until the client ends them. */
async function serve(t: TestContext, maxConcurrentStreams = 1000): Promise<Peer> {
  const directory = await mkdtemp(join(tmpdir(), "agent-connection-"));
  const path = join(directory, "agent.sock");
  const server = createServer({ settings: { maxConcurrentStreams } });
  const sessions: ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    stream.resume();
  });
  server.listen(path);
  await once(server, "listening");
  t.after(async () => {
    for (const session of sessions) {
      session.destroy();
    }
    server.close();
    await rm(directory, { recursive: true });
  });
  return { path, sessions };
}

function connectionTo(t: TestContext, path: string, onIdle?: () => void): AgentConnection {
  const connection = new AgentConnection({ address: { kind: "unix", path } }, { onIdle });
  t.after(() => connection.close());
  return connection;
}

async function open(connection: AgentConnection, carriesInput = false): Promise<ClientHttp2Stream> {
  const stream = await connection.request("POST", "/", {}, { carriesInput });
  stream.on("error", () => {});
  return stream;
}

test("streams share a session, but no two that carry input", async (t) => {
  const { path, sessions } = await serve(t);
  const connection = connectionTo(t, path);
  await Promise.all([open(connection), open(connection), open(connection, true)]);
  await until(() => sessions[0]);
  await Promise.all([open(connection, true), open(connection, true)]);
  await until(() => sessions[2]);
  assert.equal(sessions.length, 3);
});

test("opening streams that carry input takes looks that grow with the sessions only", async (t) => {
  const { path, sessions } = await serve(t);
  const connection = connectionTo(t, path);
  const prototype: object = Object.getPrototypeOf(
    Object.getPrototypeOf((await open(connection)).session ?? assert.fail("no session")),
  );
  const { get: closed } = Object.getOwnPropertyDescriptor(prototype, "closed") ?? {};
  const looks = t.mock.getter(prototype as { closed: unknown }, "closed", closed);
  const opened = await Promise.all(Array.from({ length: 100 }, () => open(connection, true)));
  assert.ok(looks.mock.callCount() < 4 * opened.length ** 2, `${looks.mock.callCount()} looks`);
  await until(() => sessions.length === opened.length || undefined);
});

test("the session of input that has ended takes the next input", async (t) => {
  const { path, sessions } = await serve(t);
  const connection = connectionTo(t, path);
  for (let index = 0; index < 3; index++) {
    const stream = await open(connection, true);
    stream.destroy();
    await once(stream, "close");
  }
  assert.equal(sessions.length, 1);
});

test("beyond the streams that a peer takes there is another session, not a silent queue", async (t) => {
  const { path, sessions } = await serve(t, 2);
  const connection = connectionTo(t, path);
  for (let index = 0; index < 5; index++) {
    await open(connection);
  }
  await until(() => sessions[2]);
});

test("a session that got a GOAWAY finishes its stream while the next one goes elsewhere", async (t) => {
  const { path, sessions } = await serve(t);
  const connection = connectionTo(t, path);
  const first = await open(connection);
  const received = once(first.session ?? assert.fail("no session"), "goaway");
  // As Go's servers do it: all streams so far may go on.
  (await until(() => sessions[0])).goaway(0, 2 ** 31 - 1);
  await received;
  const second = await open(connection);
  assert.notEqual(second.session, first.session);
  assert.equal(first.destroyed, false);
});

test("frames of a byte that wait are few chunks", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "agent-connection-"));
  const path = join(directory, "agent.sock");
  const body = Buffer.alloc(30_000, "abc");
  const agent = createSocketServer((socket) => answerInBytes(socket, body)).listen(path);
  await once(agent, "listening");
  t.after(async () => {
    agent.close();
    await rm(directory, { recursive: true });
  });
  const stream = await open(connectionTo(t, path));
  await once(stream, "trailers"); // All that came before them waits.
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(stream, "end");
  assert.ok(Buffer.concat(chunks).equals(body));
  assert.ok(chunks.length < 100, `${chunks.length} chunks`);
});

test("a pool forgets an address that could not be reached", async (t) => {
  const pool = new ConnectionPool(new ByteBudget(0));
  t.after(() => pool.close());
  const connection = pool.connectionTo({ address: { kind: "unix", path: "/nowhere" } });
  await assert.rejects(Promise.all([open(connection), open(connection)]));
  assert.equal(pool.size, 0);
});

test("a pool has one connection per address and forgets those whose sessions have closed", async (t) => {
  const [one, other] = [await serve(t), await serve(t)];
  const pool = new ConnectionPool(new ByteBudget(0));
  t.after(() => pool.close());
  const target = { address: { kind: "unix", path: one.path } } as const;
  const connection = pool.connectionTo(target);
  assert.equal(pool.connectionTo({ ...target, containerId: "another" }), connection);
  assert.notEqual(pool.connectionTo({ address: { kind: "unix", path: other.path } }), connection);
  await open(connection);
  for (const session of one.sessions) {
    session.destroy();
  }
  await until(() => pool.size === 1 || undefined);
});
