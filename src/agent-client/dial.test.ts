import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { constants, createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";
import { createServer as createServerTls, type TLSSocket } from "node:tls";

import { Code, ConnectError } from "@connectrpc/connect";

import { listenHere } from "../../test/support/listen-here.ts";
import { until } from "../../test/support/until.ts";
import type { ClientCredentials, DialTarget } from "./address.ts";
import { AgentConnection } from "./connection.ts";
import { dial } from "./dial.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const directory = scratchDirectory();

interface Identity {
  readonly key: string;
  readonly certificate: string;
  /** SHA-256 of the public key. */
  readonly pin: Uint8Array;
}

/** A key and a certificate that it signed itself, as an agent makes them. */
function selfSigned(name: string): Identity {
  const key = join(directory, `${name}.key`);
  const certificate = join(directory, `${name}.crt`);
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const files = ["-keyout", key, "-out", certificate];
  execFileSync("openssl", ["req", "-x509", ...kind, ...files, "-days", "1", "-subj", `/CN=${name}`], {
    stdio: "ignore",
  });
  const pem = readFileSync(certificate, "utf8");
  const spki = new X509Certificate(pem).publicKey.export({ type: "spki", format: "der" });
  return {
    key: readFileSync(key, "utf8"),
    certificate: pem,
    pin: createHash("sha256").update(spki).digest(),
  };
}

const agent = selfSigned("agent");
const client = selfSigned("client");
const credentials: ClientCredentials = { key: client.key, certificateChain: client.certificate };

async function serve(
  t: TestContext,
  maxVersion: "TLSv1.2" | "TLSv1.3" = "TLSv1.3",
): Promise<{ readonly port: number; readonly sessions: ServerHttp2Session[] }> {
  const server = createSecureServer({
    key: agent.key,
    cert: agent.certificate,
    ca: client.certificate,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    maxVersion,
  });
  const sessions: ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("sessionError", () => {});
  server.on("tlsClientError", () => {});
  const port = await listenHere(server);
  t.after(() => {
    for (const session of sessions) {
      session.destroy();
    }
    server.close();
  });
  return { port, sessions };
}

const targetOf = (port: number, pin: Uint8Array, shown = credentials): DialTarget => ({
  address: { kind: "tcp", host: "127.0.0.1", port, pin },
  credentials: shown,
});

test("an agent is known by its key, and sees the client's certificate", async (t) => {
  const { port, sessions } = await serve(t);
  const { session } = await dial(targetOf(port, agent.pin));
  // In TLS 1.3 the client is done first.
  const socket = (await until(() => sessions[0])).socket as TLSSocket;
  assert.equal(socket.getPeerCertificate().subject.CN, "client");
  assert.equal(socket.getProtocol(), "TLSv1.3");
  session.close();
  await once(session, "close");
});

test("another key than the pinned one is refused before a request is sent", async (t) => {
  const { port, sessions } = await serve(t);
  let streams = 0;
  const counted = (session: ServerHttp2Session): void => {
    session.on("stream", () => streams++);
  };
  sessions.forEach(counted);
  await assert.rejects(
    dial(targetOf(port, client.pin)),
    (error) =>
      error instanceof ConnectError && error.code === Code.Internal && /another key/.test(error.message),
  );
  assert.equal(streams, 0);
});

test("a pin of the wrong length matches nothing", async (t) => {
  const { port } = await serve(t);
  await assert.rejects(dial(targetOf(port, agent.pin.subarray(0, 8))), /another key/);
});

test("an agent that speaks no TLS 1.3 is refused", async (t) => {
  const { port } = await serve(t, "TLSv1.2");
  await assert.rejects(
    dial(targetOf(port, agent.pin)),
    (error) => error instanceof ConnectError && error.code === Code.Unavailable,
  );
});

test("an agent that has shown a long chain of certificates is left alone for a while", async (t) => {
  const { port } = await serve(t);
  const chain = Array.from({ length: 24 }, () => agent.certificate).join("");
  const server = createServerTls({ key: agent.key, cert: chain, ALPNProtocols: ["h2"] });
  server.on("tlsClientError", () => {});
  let dials = 0;
  server.on("connection", () => dials++);
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  const { pin } = client; // Another key than that of the chain.
  const target = targetOf((server.address() as AddressInfo).port, pin);
  await assert.rejects(dial(target), /another key/);
  await assert.rejects(dial(target), /its last handshake was too long/);
  assert.equal(dials, 1);
  const { session } = await dial(targetOf(port, agent.pin));
  session.destroy();
});

test("a calling agent whose link's frames carry nothing is cut", async (t) => {
  const path = join(directory, "relay.sock");
  const relay = createHttpServer();
  relay.on("connect", (_request, socket) => {
    socket.on("error", () => {}).resume();
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    const frames = Buffer.alloc(64 * 1024 - 4);
    const send = (): void => void socket.write(frames, (error) => error ?? setTimeout(send, 5));
    send();
  });
  await once(relay.listen(path), "listening");
  t.after(() => relay.close());
  const target: DialTarget = { address: { kind: "called", path, pin: agent.pin }, credentials };
  await assert.rejects(dial(target, { outlivesCuts: true }), /records that carry nothing/);
});

test("without a certificate there is no dialling", async () => {
  await assert.rejects(
    dial({ address: { kind: "tcp", host: "127.0.0.1", port: 1, pin: agent.pin } }),
    /demands a client certificate/,
  );
});

test("an agent that is slow to answer has more time than one that nobody reaches", async (t) => {
  const server = createServer();
  const port = await listenHere(server);
  t.after(() => server.close());
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const dialled = dial(targetOf(port, agent.pin));
  let isOver = false;
  dialled.catch(() => {
    isOver = true;
  });
  const [socket] = (await once(server, "connection")) as [Socket];
  await once(socket, "data"); // The client is connected.
  await setImmediate();
  t.mock.timers.tick(10_000);
  await setImmediate();
  assert.equal(isOver, false);
  t.mock.timers.tick(20_000);
  await assert.rejects(dialled, /no answer within 30 s$/);
  socket.destroy();
});

/** A call over a clock of the test's. */
async function begun(t: TestContext) {
  const { port, sessions } = await serve(t);
  const connection = new AgentConnection(targetOf(port, agent.pin));
  t.after(() => connection.close());
  const before = await connection.request("POST", "/", {});
  const streams: ServerHttp2Stream[] = [];
  const peer = await until(() => sessions[0]);
  peer.on("stream", (stream) => streams.push(stream.on("error", () => {})));
  before.close();
  await once(before, "close");
  t.mock.timers.enable({ apis: ["setInterval", "setTimeout"] });
  const call = await connection.request("POST", "/", {});
  const failed = once(call, "error");
  while (streams.at(-1)?.id !== call.id) {
    await setImmediate();
  }
  return { connection, peer, call, failed, session: call.session ?? assert.fail(), answers: streams.at(-1) };
}

/** A call after whose start the connection's pings get no answer. */
async function unanswered(t: TestContext, input: Buffer) {
  const { call, failed, session, answers } = await begun(t);
  const pings = t.mock.method(session, "ping", () => true).mock;
  if (input.length > 0) {
    answers?.resume();
    await new Promise((resolve) => call.write(input, resolve));
  }
  t.mock.timers.tick(10_000);
  assert.equal(pings.callCount(), 1);
  const answer = async (): Promise<void> => {
    answers?.write("bytes");
    await once(call, "data");
  };
  return { session, failed, answer };
}

test("a connection on which bytes come lives on though its ping waits, and not one on which nothing comes", async (t) => {
  const { session, failed, answer } = await unanswered(t, Buffer.alloc(0));
  for (let times = 0; times < 3; times++) {
    await answer();
    t.mock.timers.tick(20_000);
    assert.ok(!session.destroyed);
  }
  t.mock.timers.tick(20_000);
  assert.match(String(await failed), /stopped answering/);
});

test("a ping that gets no answer for five minutes ends its connection, whatever comes", async (t) => {
  const { session, failed, answer } = await unanswered(t, Buffer.alloc(0));
  for (let times = 0; times < 15; times++) {
    assert.ok(!session.destroyed);
    await answer();
    t.mock.timers.tick(20_000);
  }
  assert.ok(session.destroyed);
  assert.match(String(await failed), /stopped answering/);
});

test("a ping may wait behind input for five minutes, though nothing comes", async (t) => {
  const { session, failed } = await unanswered(t, Buffer.alloc(256 * 1024));
  t.mock.timers.tick(280_000);
  assert.ok(!session.destroyed);
  t.mock.timers.tick(20_000);
  assert.match(String(await failed), /stopped answering/);
});

test("a call that an agent finishes after a GOAWAY may be silent for five minutes, and no longer", async (t) => {
  const { peer, session, failed } = await begun(t);
  const left = once(session, "goaway");
  peer.goaway(0, 2 ** 31 - 1);
  await left;
  for (let seconds = 0; seconds < 310; seconds += 10) {
    assert.ok(!session.destroyed);
    t.mock.timers.tick(10_000);
    await setImmediate(); // A ping has failed.
  }
  assert.ok(session.destroyed);
  assert.match(String(await failed), /stopped answering/);
});

test("a connection on which nothing comes is left, whether or not a call of it was cancelled before it was sent", async (t) => {
  const { connection, call, session, failed } = await begun(t);
  const cancelled = await connection.request("POST", "/", {});
  assert.equal(cancelled.session, call.session);
  cancelled.write("input");
  cancelled.close(constants.NGHTTP2_CANCEL);
  t.mock.method(session, "ping", () => true);
  t.mock.timers.tick(10_000);
  t.mock.timers.tick(20_000);
  assert.ok(session.destroyed);
  assert.match(String(await failed), /stopped answering/);
});

/** A call of whose input an agent reads nothing, once much of it waits. */
async function unread(t: TestContext, name: string) {
  const path = join(directory, name);
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    // Windows of 8 MiB, of which the agent then reads nothing.
    const settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0x80, 0, 0];
    socket.on("error", () => {}).write(Buffer.from([...settings, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0x80, 0, 0]));
    t.after(() => socket.destroy());
    sockets.push(socket);
  });
  await once(server.listen(path), "listening");
  t.after(() => server.close());
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const connection = new AgentConnection({ address: { kind: "unix", path } });
  const call = await connection.request("POST", "/", {});
  const session = call.session ?? assert.fail();
  t.after(() => session.destroy());
  call.write(Buffer.alloc(8 * 1024 * 1024));
  await setImmediate();
  await setImmediate();
  return { call, session, socket: sockets[0] ?? assert.fail() };
}

test("an idle connection to an agent that does not read ends with its time", async (t) => {
  const { call, session } = await unread(t, "unread.sock");
  call.destroy();
  await once(call, "close");
  const closed = once(session, "close");
  t.mock.timers.tick(60_000);
  await closed;
});

test("a connection to an agent that does not read ends with its last call after a GOAWAY", async (t) => {
  const { call, session, socket } = await unread(t, "left.sock");
  const left = once(session, "goaway");
  socket.write(Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
  await left;
  const closed = once(session, "close");
  call.destroy();
  await closed;
});
