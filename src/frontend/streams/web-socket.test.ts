import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { test, type TestContext } from "node:test";
import { setImmediate as nextTurnOf } from "node:timers/promises";

import { listenHere } from "../../../test/support/listen-here.ts";
import { untilTrue } from "../../../test/support/until.ts";
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
async function open(t: TestContext) {
  const server = createServer();
  const port = await listenHere(server);
  const client = connect(port);
  client.on("error", () => {}); // It may be cut.
  t.after(() => {
    client.destroy();
    server.close();
  });
  client.write(handshake);
  const [request, socket, head] = await once(server, "upgrade");
  const version = { atLeast: () => true };
  const context = { request, socket: socket as Socket, head, version, takeOver: () => {} };
  const stream = await acceptWebSocket(context as unknown as HijackContext);
  return { client, stream, socket: socket as Socket };
}

test("many small messages that arrive at once are read in as many turns of the event loop", async (t) => {
  const { client, stream } = await open(t);
  let turn = 0;
  const nextTurn = (): void => {
    turn += 1;
    counting = setImmediate(nextTurn);
  };
  let counting = setImmediate(nextTurn);
  t.after(() => clearImmediate(counting));
  const read: number[] = [];
  stream.on("data", (bytes: Buffer) => read.push(...Array.from(bytes, () => turn)));
  const count = 1_000;
  client.write(Buffer.concat(Array.from({ length: count }, () => message)));
  await untilTrue(() => read.length === count);
  assert.ok(new Set(read).size > count / 2, `they were read in ${new Set(read).size} turns`);
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

for (const [what, chunk] of [
  ["of which parts come beside large pongs", [frame(part, Buffer.from("a")), frame(pong, Buffer.alloc(125))]],
  ["of thousands of parts", Array.from({ length: 300 }, () => frame(part, Buffer.from("a")))],
] as const) {
  test(`a message ${what} ends the connection`, async (t) => {
    const { client, stream } = await open(t);
    let sent = 0;
    client.write(frame(0x02, Buffer.from("a")));
    while (!stream.destroyed && sent < 2_000) {
      client.write(Buffer.concat(chunk));
      sent += 1;
      await nextTurnOf();
    }
    assert.ok(stream.destroyed, `${sent} were taken`);
    assert.ok(sent < 1_000);
  });
}

test("incomplete messages of many clients share what they may keep", async (t) => {
  const half = Buffer.alloc(512 * 1024);
  const size = Buffer.alloc(14);
  size.set([0x02, 0xff]);
  size.writeBigUInt64BE(BigInt(2 * half.length), 2);
  const streams: Duplex[] = [];
  for (let n = 0; n < 200; n++) {
    const { client, stream } = await open(t);
    streams.push(stream);
    client.write(Buffer.concat([size, half]));
  }
  await untilTrue(() => streams.filter(({ destroyed }) => !destroyed).length < 140);
  const { client, stream } = await open(t);
  client.write(frame(0x82, Buffer.from("whole")));
  assert.equal(String((await once(stream, "data"))[0]), "whole");
});

test("a message whose bytes come by themselves takes the room of its reads", async (t) => {
  let cut = 0;
  for (let n = 0; n < 250; n++) {
    const { socket } = await open(t);
    socket.emit("data", Buffer.from([0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0]));
    for (let sent = 0; sent < 1_000 && !socket.destroyed; sent++) {
      socket.emit("data", Buffer.from("a"));
    }
    cut += Number(socket.destroyed);
  }
  assert.ok(cut > 20, `${cut} of them are cut`);
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
  assert.equal(String((await once(stream, "data"))[0]), "ab");
});
