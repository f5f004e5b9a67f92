import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { test } from "node:test";

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

test("many small messages that arrive at once are read in as many turns of the event loop", async (t) => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect((server.address() as AddressInfo).port);
  t.after(() => {
    client.destroy();
    server.close();
  });
  client.write(handshake);
  const [request, socket, head] = await once(server, "upgrade");
  const version = { atLeast: () => true };
  const context = { request, socket: socket as Socket, head, version, takeOver: () => {} };
  const stream = await acceptWebSocket(context as unknown as HijackContext);
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
