import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { test } from "node:test";

import { WebSocketServer } from "ws";

import { AgentSocket, streamOf } from "./agent-socket.ts";

test("what an agent does not read waits with the client, but for 64 KiB and one read", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  t.after(() => server.close());
  const agents = new WebSocketServer({ server, WebSocket: AgentSocket });
  await once(server, "listening");
  const agent = connect((server.address() as AddressInfo).port, "127.0.0.1").pause();
  t.after(() => agent.destroy());
  agent.write(
    "GET / HTTP/1.1\r\nhost: relay\r\nconnection: upgrade\r\nupgrade: websocket\r\n" +
      "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  const [webSocket, { socket }] = await once(agents, "connection");
  socket.cork(); // Nothing is written, as if the kernel had no room.
  const stream = streamOf(webSocket);
  const read = Buffer.alloc(64 * 1024);
  let taken = read.length;
  for (let hasRoom = stream.write(read); hasRoom; taken += read.length) {
    hasRoom = stream.write(read);
  }
  assert.ok(taken <= 2 * read.length, `${taken} bytes`);
  webSocket.terminate();
});

test("of ten thousand messages that come at once before anybody has asked, few are looked at", async (t) => {
  const server = createServer().listen(0, "127.0.0.1");
  t.after(() => server.close());
  const agents = new WebSocketServer({ server, WebSocket: AgentSocket });
  let looked = 0;
  agents.on("connection", (webSocket, { socket }) => {
    webSocket.lookInPieces(socket);
    webSocket.on("message", () => {
      looked += 1;
      webSocket.noteMessage();
    });
  });
  await once(server, "listening");
  const agent = connect((server.address() as AddressInfo).port, "127.0.0.1");
  agent.on("error", () => {});
  agent.write(
    "GET / HTTP/1.1\r\nhost: relay\r\nconnection: upgrade\r\nupgrade: websocket\r\n" +
      "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  await once(agent, "data");
  const closed = new Promise((resolve) => agent.once("close", resolve));
  agent.write(Buffer.alloc(60_000, Buffer.from([0x82, 0x80, 0, 0, 0, 0])));
  await closed;
  assert.ok(looked > 0 && looked < 200, `${looked} messages`);
});
