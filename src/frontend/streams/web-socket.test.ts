import assert from "node:assert/strict";
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import { test, type TestContext } from "node:test";
import { setImmediate as nextTurnOf } from "node:timers/promises";

import { listenHere } from "../../../test/support/listen-here.ts";
import { untilTrue } from "../../../test/support/until.ts";
import { BoundedWebSocket } from "../../common/bounded-web-socket.ts";
import type { HijackContext } from "../request-context.ts";
import { acceptWebSocket } from "./web-socket.ts";

const handshake = [
  "GET / HTTP/1.1",
  "Host: docker",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  "\r\n",
].join("\r\n");

/** A binary message of one byte, masked with zeros. */
const message = Buffer.from([0x82, 0x81, 0, 0, 0, 0, 0x61]);

/** A client's connection, as bytes, and the stream that the server makes of it. */
async function open(t: TestContext, early: Buffer = Buffer.alloc(0)) {
  const server = createServer();
  const port = await listenHere(server);
  const client = connect(port);
  client.on("error", () => {}); // It may be cut.
  t.after(() => {
    client.destroy();
    server.close();
  });
  client.write(Buffer.concat([Buffer.from(handshake), early]));
  const [request, socket, head] = await once(server, "upgrade");
  const version = { atLeast: () => true };
  (socket as Socket).unshift(head as Buffer);
  const context = { request, socket: socket as Socket, version, takeOver: () => {} };
  const stream = await acceptWebSocket(context as unknown as HijackContext);
  return { client, stream, socket: socket as Socket };
}

test("many small messages that arrive at once are read in few turns of the event loop, also once the client has left", async (t) => {
  const { client, stream } = await open(t);
  const count = 20_000;
  client.end(Buffer.concat(Array.from({ length: count }, () => message)));
  let turn = 0;
  const nextTurn = (): void => {
    turn += 1;
    counting = setImmediate(nextTurn);
  };
  let counting = setImmediate(nextTurn);
  t.after(() => clearImmediate(counting));
  const read: number[] = [];
  stream.on("data", (bytes: Buffer) => read.push(...Array.from(bytes, () => turn)));
  await once(stream, "close");
  assert.equal(read.length, count);
  assert.ok(new Set(read).size < 100, `they were read in ${new Set(read).size} turns`);
});

test("messages of a byte that wait are kept in few pieces", async (t) => {
  const { client, stream } = await open(t);
  const count = 1_000;
  client.write(Buffer.concat(Array.from({ length: count }, () => message)));
  let whole = 0;
  const push = stream.push.bind(stream);
  stream.push = (chunk: Buffer | null) => {
    whole += chunk?.length ?? 0;
    return push(chunk);
  };
  await untilTrue(() => whole === count);
  let [pieces, bytes] = [0, 0];
  stream.on("data", ({ length }: Buffer) => {
    pieces += 1;
    bytes += length;
  });
  await untilTrue(() => bytes === count);
  assert.ok(pieces < 10, `${pieces} pieces`);
});

/** A frame of up to 125 bytes, masked with zeros. */
function frame(opcode: number, data: Buffer): Buffer {
  return Buffer.concat([Buffer.from([opcode, 0x80 | data.length, 0, 0, 0, 0]), data]);
}

const [part, lastPart, pong, ping] = [0x00, 0x80, 0x8a, 0x89];

test("parts of messages are read as they come, and none of them is kept", async (t) => {
  const first = frame(0x02, Buffer.from("a"));
  const { client, stream } = await open(t, first.subarray(0, 4));
  const size = Buffer.alloc(14);
  size.set([0x02, 0xff]);
  size.writeBigUInt64BE(2n ** 40n, 2);
  client.write(Buffer.concat([first.subarray(4), frame(part, Buffer.from("b")), size]));
  let bytes = "";
  stream.on("data", (chunk: Buffer) => (bytes += String(chunk)));
  await untilTrue(() => bytes === "ab");
  for (let sent = 0; sent < 20; sent++) {
    client.write(Buffer.alloc(2 ** 20, "c"));
    await untilTrue(() => bytes.length === 2 + (sent + 1) * 2 ** 20);
  }
  assert.ok(!stream.destroyed && stream.readableLength === 0);
});

test("messages of all lengths, in parts and in any pieces, beside pings, are their bytes", async (t) => {
  const { client, stream } = await open(t);
  const [sent, frames] = [[] as Buffer[], [] as Buffer[]];
  for (let n = 0; n < 200; n++) {
    const data = randomBytes(n % 20 === 0 ? 70_000 + n : ([0, 1, n, 125, 126, 300][n % 6] ?? 0));
    const short = data.length < 126 ? data.length : data.length < 65_536 ? 126 : 127;
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(data.length));
    const mask = randomBytes(4);
    frames.push(
      Buffer.from([[0x02, 0x00, 0x80, 0x81][n % 4] ?? 0, 0x80 | short]),
      length.subarray(short === 127 ? 0 : short === 126 ? 6 : 8),
      mask,
      Buffer.from(data.map((byte, at) => byte ^ (mask[at & 3] ?? 0))),
      n % 50 === 0 ? frame(ping, Buffer.from(`${n}`)) : Buffer.alloc(0),
    );
    sent.push(data);
  }
  const read: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => read.push(chunk));
  const bytes = Buffer.concat(frames);
  for (let at = 0; at < bytes.length; ) {
    const to = at + randomInt(1, at % 3 === 0 ? 20 : 90_000);
    client.write(bytes.subarray(at, to));
    at = to;
    await nextTurnOf();
  }
  client.end(frame(0x88, Buffer.alloc(0)));
  await once(stream, "close");
  assert.ok(Buffer.concat(read).equals(Buffer.concat(sent)));
});

for (const [what, frames] of [
  ["pongs without end", Array.from({ length: 50 }, () => frame(pong, Buffer.alloc(125)))],
  ["a frame without a mask", [Buffer.from([0x82, 1, 0x61])]],
  ["a frame of another kind", [frame(0x83, Buffer.from("a"))]],
  ["a compressed message", [frame(0xc2, Buffer.from("a"))]],
] as const) {
  test(`who sends ${what} is cut`, async (t) => {
    const { client, stream } = await open(t);
    client.write(Buffer.concat([message, ...frames]));
    stream.resume();
    await untilTrue(() => stream.destroyed);
  });
}

test("pings without end are cut, though each comes alone", async (t) => {
  const { client, stream } = await open(t);
  client.setNoDelay();
  for (let sent = 0; sent < 1_000 && !stream.destroyed; sent++) {
    client.write(frame(ping, Buffer.from("a")));
    await nextTurnOf();
  }
  await untilTrue(() => stream.destroyed);
});

test("a ping in many pieces is one", async (t) => {
  const { client, stream } = await open(t);
  client.setNoDelay();
  for (const byte of frame(ping, Buffer.alloc(125, "a"))) {
    client.write(Buffer.of(byte));
    await nextTurnOf();
  }
  client.write(frame(0x82, Buffer.from("b")));
  let read = "";
  stream.on("data", (bytes: Buffer) => (read += String(bytes)));
  await untilTrue(() => read !== "" || stream.destroyed);
  assert.equal(read, "b");
});

test("a client that pings once in a while is answered, and keeps its connection", async (t) => {
  const { client, stream } = await open(t);
  await once(client, "data"); // The handshake's answer.
  for (let n = 0; n < 3; n++) {
    client.write(frame(ping, Buffer.from(`${n}`)));
    const [answer] = await once(client, "data");
    assert.equal(String(answer).at(-1), `${n}`);
  }
  client.write(frame(0x02, Buffer.from("a")));
  client.write(frame(lastPart, Buffer.from("b")));
  let read = "";
  stream.on("data", (bytes: Buffer) => (read += String(bytes)));
  await untilTrue(() => read === "ab");
});

test("of pings that arrive at once few are looked at before the client is cut", async (t) => {
  const answered = t.mock.method(BoundedWebSocket.prototype, "answer");
  const { client, stream } = await open(t);
  client.write(Buffer.from("898000000000".repeat(10_000), "hex"));
  await once(stream, "close");
  assert.ok(answered.mock.callCount() < 100, `${answered.mock.callCount()} pings`);
});
