import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer as createSocketServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";

import type { DialTarget } from "../../agent-client/address.ts";
import { encodeBulkHead } from "../../agent-client/bulk-messages.ts";
import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { encodeOpenExec } from "../../agent-client/session.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { SessionResponseSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { cat, exited, serveAgent, SessionOutput, started } from "../../../test/support/scripted-agent.ts";
import { until } from "../../../test/support/until.ts";
import { joinClient } from "./client-socket.ts";
import { BufferSupply } from "./output-buffers.ts";
import { StreamPool } from "./stream-pool.ts";
import {
  type FromWorker,
  onItsWay,
  outputBufferSize,
  type StreamTask,
  type ToWorker,
} from "./thread-messages.ts";
import { portsInThread } from "./thread-ports.ts";
import { runStream } from "./worker-stream.ts";

const exec = {
  kind: "session",
  open: encodeOpenExec({}),
  carriesInput: true,
  detachKeys: new Uint8Array(),
} as const;

function poolOf(t: TestContext, threads = 1): StreamPool {
  const pool = new StreamPool(threads);
  t.after(() => pool.close());
  return pool;
}

const targetOf = (path: string): DialTarget => ({ address: { kind: "unix", path } });

/** A connected pair of sockets: what a client and what a server hold. */
async function socketPair(t: TestContext): Promise<{ readonly client: Socket; readonly server: Socket }> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-pair-"));
  const listener = createSocketServer({ allowHalfOpen: true, pauseOnConnect: true });
  const path = join(directory, "s.sock");
  await new Promise<void>((resolve) => listener.listen(path, resolve));
  const client = connect({ path, allowHalfOpen: true }).pause();
  const [server] = (await once(listener, "connection")) as [Socket];
  t.after(async () => {
    client.destroy();
    server.destroy();
    listener.close();
    await rm(directory, { recursive: true });
  });
  server.on("error", () => {});
  client.on("error", () => {});
  return { client, server };
}

/** An agent that answers each session by writing raw frames; a gRPC library would be the slowest part of the test. */
async function serveFrames(t: TestContext, answer: (stream: ServerHttp2Stream) => void): Promise<DialTarget> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-frames-"));
  const path = join(directory, "agent.sock");
  const server = createServer({ settings: { initialWindowSize: 1024 * 1024 } });
  server.on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.on("error", () => {});
    answer(stream);
  });
  server.on("session", (session) => t.after(() => session.destroy()));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(async () => {
    server.close();
    await rm(directory, { recursive: true });
  });
  return targetOf(path);
}

test("200 sessions at once each get their own bytes and end", async (t) => {
  const pool = poolOf(t, 2);
  const agent = await serveAgent(t, { session: cat });
  const texts = Array.from({ length: 200 }, (_, index) => `session ${index} `.repeat(index + 1));
  const echoed = await Promise.all(
    texts.map(async (text) => {
      const link = pool.open(targetOf(agent.socket), exec, "raw");
      const chunks: Buffer[] = [];
      link.pipeTo((chunk, written) => {
        chunks.push(Buffer.from(chunk));
        written();
      });
      link.write(Buffer.from(text));
      link.endInput();
      assert.deepEqual(await link.ended, { kind: "exit", exitCode: 0 });
      return Buffer.concat(chunks).toString();
    }),
  );
  assert.deepEqual(echoed, texts);
  assert.equal(pool.size, 0);
});

test("a stream whose connection may be handed on has one to its agent for itself while it has input", async (t) => {
  const connections = new Set<unknown>();
  const target = await serveFrames(t, (stream) => connections.add(stream.session));
  const pool = poolOf(t);
  const open = encodeOpenExec({ attachStdin: true, handOver: {} });
  const links = [1, 2].map(() => pool.open(target, { ...exec, open }, "raw", true));
  await until(() => connections.size === 2 || undefined);
  for (const link of links) {
    link.cancel();
  }
});

test("a stream does not keep its request, which may have megabytes", async (t) => {
  const agent = await serveAgent(t, { session: cat });
  const { port1, port2 } = portsInThread<FromWorker, ToWorker>();
  const budget = new ByteBudget(0);
  const resources = { connections: new ConnectionPool(budget), supply: new BufferSupply(0, budget) };
  t.after(() => resources.connections.close());
  const opened = new Promise<void>((resolve) => {
    port1.on("message", ({ type }) => (type === "opened" ? resolve() : undefined));
  });
  const task: StreamTask = {
    ...{ target: targetOf(agent.socket), operation: exec, framing: "raw", port: port2 },
    ...{ handOver: false, requestId: undefined },
  };
  const ended = runStream(task, resources);
  await opened;
  assert.ok(task.operation.kind === "session");
  assert.deepEqual([exec.open.length > 0, task.operation.open.length], [true, 0]);
  port1.close();
  await ended;
});

test("a client that never reads costs bounded memory and loses nothing when it reads at last", async (t) => {
  const total = 64 * 1024 * 1024;
  const size = 256 * 1024;
  let sent = 0;
  const target = await serveFrames(t, (stream) => {
    const data = Buffer.alloc(size, 1);
    const send = (): void => {
      while (sent < total) {
        // Tag 0x12 is SessionResponse.stdout.
        stream.write(encodeBulkHead(0x12, sent, size));
        sent += size;
        if (!stream.write(data)) {
          stream.once("drain", send);
          return;
        }
      }
      const exit = toBinary(SessionResponseSchema, create(SessionResponseSchema, exited(0)));
      stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, exit.length]), exit]));
    };
    send();
  });
  const { client, server } = await socketPair(t);
  const pool = poolOf(t);
  const link = pool.open(target, exec, "raw");
  const joined = joinClient(server, link, { stdin: true, signal: t.signal });
  // Its last word for a while: buffers on their way, HTTP/2's windows and the sockets' buffers are full.
  let before = -1;
  await until(() => {
    const stalled = sent === before && sent > 0;
    before = sent;
    return stalled || undefined;
  });
  const bound = onItsWay.output.most + 16 * 1024 * 1024;
  assert.ok(sent <= bound, `the agent could send ${sent} bytes to a client that does not read`);
  assert.ok(server.writableLength <= onItsWay.output.most + outputBufferSize);
  let received = 0;
  client.on("data", (chunk) => {
    received += chunk.length;
  });
  client.resume();
  assert.deepEqual(await joined, { kind: "exit", exitCode: 0 });
  server.end();
  await once(client, "end");
  assert.equal(received, total);
});

test("a stream that is cut is told at once, also to a client that reads nothing", async (t) => {
  const size = 256 * 1024;
  const target = await serveFrames(t, (stream) => {
    for (let sent = 0; sent < 4 * size; sent += size) {
      stream.write(encodeBulkHead(0x12, sent, size));
      stream.write(Buffer.alloc(size, 1));
    }
    setTimeout(() => stream.session?.destroy(), 100);
  });
  const link = poolOf(t).open(target, exec, "raw");
  await assert.rejects(link.ended, { kind: "unavailable" });
});

test("a process that never reads its stdin stops the client from sending", async (t) => {
  const target = await serveFrames(t, (stream) => {
    stream.pause();
  });
  const { client, server } = await socketPair(t);
  const link = poolOf(t).open(target, exec, "raw");
  const joined = joinClient(server, link, { stdin: true, signal: t.signal }).catch((error: unknown) => error);
  let given = 0;
  const chunk = Buffer.alloc(64 * 1024);
  const give = (): void => {
    while (given < 64 * 1024 * 1024) {
      given += chunk.length;
      if (!client.write(chunk)) {
        client.once("drain", give);
        return;
      }
    }
  };
  give();
  let before = -1;
  await until(() => {
    const stalled = given === before;
    before = given;
    return stalled || undefined;
  });
  assert.ok(given < 32 * 1024 * 1024, `the client could give ${given} bytes`);
  client.destroy();
  server.destroy();
  await joined;
});

test("input in chunks of a byte takes the room that its buffers have, and gives it back", async (t) => {
  const target = await serveFrames(t, (stream) => stream.resume());
  const link = poolOf(t).open(target, exec, "raw");
  const drained = new Promise<void>((resolve) => link.onDrain(resolve));
  const fill = (): number => {
    let written = 1;
    while (link.write(Buffer.from("a")) && written < 10_000) {
      written += 1;
    }
    return written;
  };
  const first = fill();
  assert.ok(first < 1_500, `${first} chunks wait`);
  await drained;
  assert.ok(fill() <= first);
  link.cancel();
  await assert.rejects(link.ended);
});

test("a worker that dies ends its streams with an error, and the next stream has a new one", async (t) => {
  const pool = poolOf(t);
  const agent = await serveAgent(t, {
    async *session(_, context) {
      yield started();
      yield new SessionOutput().of("stdout", "half");
      await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
    },
  });
  const link = pool.open(targetOf(agent.socket), exec, "raw");
  let output = "";
  link.pipeTo((chunk, written) => {
    output += Buffer.from(chunk).toString();
    written();
  });
  await until(() => output === "half" || undefined);
  const [thread] = pool.threads;
  await Promise.all([assert.rejects(link.ended, /worker thread ended/), thread?.terminate()]);
  const next = pool.open(targetOf(agent.socket), exec, "raw");
  assert.equal((await next.opened).kind, "session");
  next.cancel();
});

test("a dial that fails is told as unavailable", async (t) => {
  const link = poolOf(t).open(targetOf("/nonexistent/agent.sock"), exec, "raw");
  await assert.rejects(link.opened, { kind: "unavailable" });
  await assert.rejects(link.ended, { kind: "unavailable" });
});

test("threads start with the first stream that needs one, or when they are asked for", async (t) => {
  const agent = await serveAgent(t, { session: cat });
  const pool = poolOf(t);
  const short = pool.open(targetOf(agent.socket), exec, "raw", true);
  await short.opened;
  assert.equal(pool.threads.length, 0);
  const link = pool.open(targetOf(agent.socket), exec, "raw");
  await link.opened;
  assert.equal(pool.threads.length, 1);
  short.cancel();
  link.cancel();
  const asked = poolOf(t, 2);
  asked.startThreads();
  assert.equal(asked.threads.length, 2);
});

test("closing the pool ends streams with an error", async (t) => {
  const pool = new StreamPool(1);
  const agent = await serveAgent(t, { session: cat });
  const link = pool.open(targetOf(agent.socket), exec, "raw");
  await link.opened;
  await pool.close();
  await assert.rejects(link.ended, { kind: "unavailable" });
});
