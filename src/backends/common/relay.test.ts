import assert from "node:assert/strict";
import { once } from "node:events";
import {
  connect,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, connect as connectSocket } from "node:net";
import { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { test } from "node:test";

import { containerIdHeader } from "../../agent-client/address.ts";
import type { AgentConnection } from "../../agent-client/connection.ts";
import type { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { relayAgentCall, relayedPrefix } from "./relay.ts";

/** A socket to a port, as a link is one: no handle of its own, and bytes that come at once are told of at once. */
function linkTo(port: number): Duplex {
  const socket = connectSocket(port, "127.0.0.1");
  let chunks: Buffer[] = [];
  const link = new Duplex({
    read() {},
    write: (chunk: Buffer, _encoding, done) => void socket.write(chunk, () => done()),
    final: (done) => void socket.end(() => done()),
  });
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    setTimeout(() => {
      const whole = Buffer.concat(chunks);
      chunks = [];
      if (whole.length > 0) {
        link.push(whole);
      }
    }, 20);
  });
  socket.on("close", () => link.destroy());
  link.on("close", () => socket.destroy());
  return link;
}

async function portOf(server: Http2Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

test("an answer whose bytes come with its header is forwarded, and its trailers", async () => {
  await using resources = new AsyncDisposableStack();
  const agent = createServer();
  agent.on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end("answered");
  });
  resources.defer(() => void agent.close());
  const agentPort = await portOf(agent);
  const link = connect("http://agent", { createConnection: () => linkTo(agentPort) });
  resources.defer(() => link.destroy());
  const agents = {
    connectionTo: () =>
      ({
        request: async (method, path, headers) =>
          link.request({ ...headers, ":method": method, ":path": path }),
      }) as Pick<AgentConnection, "request">,
  } as unknown as ConnectionPool;
  const target = { credentials: undefined } as never;
  const backend = createServer((request, response) => {
    void relayAgentCall(request, response, async () => target, agents);
  });
  resources.defer(() => void backend.close());
  const caller = connect(`http://127.0.0.1:${await portOf(backend)}`);
  resources.defer(() => caller.destroy());
  const call = caller.request({
    ":method": "POST",
    ":path": `${relayedPrefix}Hello`,
    [containerIdHeader]: "0".repeat(64),
  });
  call.end();
  const trailers = once(call, "trailers") as Promise<[IncomingHttpHeaders]>;
  assert.equal(await text(call), "answered");
  const [{ "grpc-status": status }] = await trailers;
  assert.equal(status, "0");
});
