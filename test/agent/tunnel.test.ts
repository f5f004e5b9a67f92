/** Tunnels as the frontend opens them, through the agent of a cloud container. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { test, type TestContext } from "node:test";

import { create } from "@bufbuild/protobuf";

import { AgentStream, type Outcome, type StreamFailure } from "../../src/agent-client/agent-stream.ts";
import { AgentConnection } from "../../src/agent-client/connection.ts";
import { encodeTunnelOpen, tunnelStream } from "../../src/agent-client/tunnel.ts";
import { openDatagramTunnel } from "../../src/frontend/port-forwarding/datagram-tunnel.ts";
import { TransportProtocol, TunnelOpenSchema } from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { freePort } from "../support/free-port.ts";
import { runInitAgent } from "./init-agent.ts";

/** A tunnel and what came through it. */
class Passage {
  readonly received: Buffer[] = [];
  readonly opened = Promise.withResolvers<void>();
  readonly outputEnded = Promise.withResolvers<void>();
  readonly over = Promise.withResolvers<Outcome | StreamFailure>();
  #stream: AgentStream | undefined;

  static async open(t: TestContext, port: number): Promise<Passage> {
    const { containerId, ...target } = await runInitAgent(t);
    const connection = new AgentConnection(target);
    t.after(() => connection.close());
    const passage = new Passage();
    passage.#stream = await AgentStream.open(
      connection,
      tunnelStream,
      {
        containerId,
        first: encodeTunnelOpen({ protocol: TransportProtocol.TCP, port }),
        carriesInput: true,
      },
      {
        opened: () => passage.opened.resolve(),
        data: (_, source, start, end) => passage.received.push(Buffer.from(source.subarray(start, end))),
        outputEnded: () => passage.outputEnded.resolve(),
        ended: (outcome) => passage.over.resolve(outcome),
        failed: (failure) => passage.over.resolve(failure),
      },
    );
    return passage;
  }

  /** Sends all of it, as fast as it is taken. */
  async send(data: Buffer): Promise<void> {
    for (let start = 0; start < data.length; start += 65_536) {
      await new Promise<void>((taken) => {
        this.#stream?.sendInput(data.subarray(start, start + 65_536), taken);
      });
    }
  }

  end(): void {
    this.#stream?.endInput();
  }

  cancel(): void {
    this.#stream?.cancel();
  }
}

/** A server in the agent's network until the test ends. */
async function listen(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    serve(socket);
  }).listen(0, "127.0.0.1");
  t.after(() => {
    server.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  });
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return address.port;
}

test("every byte goes both ways, and each direction ends for itself", async (t) => {
  const port = await listen(t, (socket) => socket.pipe(socket));
  const passage = await Passage.open(t, port);
  await passage.opened.promise;
  const sent = randomBytes(5_000_000);
  await passage.send(sent);
  passage.end();
  await passage.outputEnded.promise;
  const outcome = await passage.over.promise;
  assert.deepEqual(outcome, { kind: "complete", totalBytes: sent.length });
  assert.ok(Buffer.concat(passage.received).equals(sent));
});

test("the container may end first and be written to still", async (t) => {
  const heard = Promise.withResolvers<string>();
  const port = await listen(t, (socket) => {
    socket.end("bye");
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    socket.once("end", () => heard.resolve(text));
  });
  const passage = await Passage.open(t, port);
  await passage.outputEnded.promise;
  await passage.send(Buffer.from("last words"));
  passage.end();
  await passage.over.promise;
  assert.equal(Buffer.concat(passage.received).toString(), "bye");
  assert.equal(await heard.promise, "last words");
});

test("a port where nobody listens is a failure that says so", async (t) => {
  const passage = await Passage.open(t, await freePort());
  const failure = await passage.over.promise;
  assert.equal(failure.kind, "unavailable");
  assert.match("message" in failure ? failure.message : "", /refused/);
});

test("a connection that is reset is a failure", async (t) => {
  const port = await listen(t, (socket) => socket.once("data", () => socket.resetAndDestroy()));
  const passage = await Passage.open(t, port);
  await passage.send(Buffer.from("anything"));
  assert.equal((await passage.over.promise).kind, "system");
});

test("a caller that gives up resets the connection", async (t) => {
  const reset = Promise.withResolvers<unknown>();
  const port = await listen(t, (socket) => {
    socket.once("error", (error) => reset.resolve(error));
    socket.resume();
    socket.write("hello");
  });
  const passage = await Passage.open(t, port);
  await passage.opened.promise;
  passage.cancel();
  assert.match(String(await reset.promise), /ECONNRESET/);
});

test("each client's datagrams are answered for itself, over a connection that they share", async (t) => {
  const server = createSocket("udp4").bind(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  server.on("message", (datagram, { port, address }) => server.send(`to ${String(datagram)}`, port, address));
  const { port } = server.address();
  const target = await runInitAgent(t);
  const open = create(TunnelOpenSchema, { protocol: TransportProtocol.UDP, port });
  const names = Array.from({ length: 20 }, (_, index) => `client ${index}`);
  const answers = names.map(async (name) => {
    const answered = Promise.withResolvers<string>();
    const flow = openDatagramTunnel({
      place: async () => ({ target, open }),
      answer: (datagram) => answered.resolve(Buffer.from(datagram).toString()),
      ended: answered.reject,
    });
    t.after(() => flow.close());
    flow.send(Buffer.from(name));
    return await answered.promise;
  });
  assert.deepEqual(
    await Promise.all(answers),
    names.map((name) => `to ${name}`),
  );
});
