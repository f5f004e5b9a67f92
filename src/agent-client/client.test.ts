import assert from "node:assert/strict";
import {
  constants,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createNetServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, describe, it } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { answerInBytes } from "../../test/support/frame-by-frame-agent.ts";
import { until } from "../../test/support/until.ts";
import { isErrorKind } from "../common/errors.ts";
import { containerIdHeader } from "./address.ts";
import { type AgentClient, createAgentClient } from "./client.ts";
import { AgentConnection } from "./connection.ts";
import { framed } from "./grpc-request.ts";
import { AgentService, LogsResponseSchema } from "../gen/sockerless/agent/v1/agent_pb.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const directory = scratchDirectory();

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) {
    await cleanup();
  }
});

let sockets = 0;
const nextPath = (): string => join(directory, `${++sockets}.sock`);

interface TestAgent {
  readonly path: string;
  readonly sessions: Set<ServerHttp2Session>;
  readonly stop: () => Promise<void>;
}

async function serve(
  service: Partial<ServiceImpl<typeof AgentService>>,
  path = nextPath(),
): Promise<TestAgent> {
  const server: Http2Server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(AgentService, service) }),
  );
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopped ??= new Promise((resolve) => {
      server.close(() => resolve());
      for (const session of sessions) {
        session.destroy();
      }
    });
    return stopped;
  };
  cleanups.push(stop);
  return { path, sessions, stop };
}

function clientOf(path: string, containerId?: string): AgentClient {
  const agent = createAgentClient({ kind: "unix", path }, containerId === undefined ? {} : { containerId });
  cleanups.push(() => agent.close());
  return agent;
}

describe("the agent client", () => {
  it("calls an agent on a unix socket and names the container", async () => {
    const seen: (string | null)[] = [];
    const { path } = await serve({
      hello: (_, context) => {
        seen.push(context.requestHeader.get(containerIdHeader));
        return { version: "1.2.3" };
      },
    });
    const { client } = clientOf(path, "abc");
    assert.equal((await client.hello({})).version, "1.2.3");
    assert.deepEqual(seen, ["abc"]);
  });

  it("shares one connection between concurrent calls", async () => {
    const { path, sessions } = await serve({ hello: () => ({ version: "1" }) });
    const { client } = clientOf(path);
    await Promise.all(Array.from({ length: 20 }, () => client.hello({})));
    assert.equal(sessions.size, 1);
  });

  it("fails with unavailable if nothing listens", async () => {
    const { client } = clientOf(nextPath());
    await assert.rejects(
      client.hello({}),
      (error) => error instanceof ConnectError && error.code === Code.Unavailable,
    );
  });

  it("redials after the agent was replaced", async () => {
    const first = await serve({ hello: () => ({ version: "1" }) });
    const { client } = clientOf(first.path);
    await client.hello({});
    await first.stop();
    await assert.rejects(client.hello({}));
    await serve({ hello: () => ({ version: "2" }) }, first.path);
    assert.equal((await client.hello({})).version, "2");
  });

  it("ends a watch with an error when the agent dies, never as if it had finished", async () => {
    const agent = await serve({
      async *watch(_, context) {
        yield { sequence: 1n };
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
      },
    });
    const { client } = clientOf(agent.path);
    const watch = client.watch({})[Symbol.asyncIterator]();
    assert.equal((await watch.next()).value?.sequence, 1n);
    const next = watch.next();
    await Promise.all([assert.rejects(next), agent.stop()]);
  });

  const breaks: readonly (readonly [string, (stream: ServerHttp2Stream) => void])[] = [
    ["refuses the stream", (stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM)],
    ["resets the stream", (stream) => stream.close(constants.NGHTTP2_CANCEL)],
    ["is lost", (stream) => stream.session?.destroy()],
  ];
  for (const [how, breakOff] of breaks) {
    it(`says unavailable when an agent that leaves ${how}, whatever the call`, async () => {
      const server = createServer();
      server.on("stream", (stream: ServerHttp2Stream) => {
        stream.on("error", () => {});
        breakOff(stream);
      });
      const path = nextPath();
      await new Promise<void>((resolve) => server.listen(path, resolve));
      cleanups.push(() => new Promise<void>((resolve) => server.close(() => resolve())));
      const { client } = clientOf(path);
      const isUnavailable = (error: unknown): boolean => isErrorKind(error, "unavailable");
      await assert.rejects(client.hello({}), isUnavailable);
      await assert.rejects(client.changes({})[Symbol.asyncIterator]().next(), isUnavailable);
    });
  }

  it("ends a watch with an error when the client is closed, and refuses calls from then on", async () => {
    const { path } = await serve({
      async *watch(_, context) {
        yield { sequence: 1n };
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
      },
    });
    const agent = clientOf(path);
    const watch = agent.client.watch({})[Symbol.asyncIterator]();
    await watch.next();
    const next = watch.next();
    agent.close();
    await assert.rejects(next);
    await assert.rejects(agent.client.hello({}), /closed/);
  });

  it("drops what an agent does not read of a call that is given up, and makes the next call elsewhere", async (t) => {
    const path = nextPath();
    const sockets: Socket[] = [];
    const server = createNetServer((socket) => {
      // Windows of 2 GiB, of which nothing is read.
      const settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
      socket.on("error", () => {});
      socket.write(Buffer.from([...settings, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]));
      sockets.push(socket);
    }).listen(path);
    cleanups.push(() => {
      server.close();
      sockets.map((socket) => socket.destroy());
    });
    const opened = t.mock.method(AgentConnection.prototype, "request").mock;
    const { client } = clientOf(path);
    for (const connections of [1, 2]) {
      const left = new AbortController();
      const failed = assert.rejects(
        client.names({ upstreams: ["x".repeat(1024 * 1024)] }, { signal: left.signal }),
      );
      const stream = await until(() => opened.calls[connections - 1]?.result);
      await until(() => stream.writableLength > 0 || undefined);
      assert.equal(sockets.length, connections);
      left.abort();
      await failed;
      assert.ok(stream.destroyed);
    }
  });

  it("refuses a message beyond the bound", async () => {
    const { path } = await serve({
      describe: () => ({ specification: new Uint8Array(5 * 1024 * 1024) }),
    });
    const { client } = clientOf(path);
    await assert.rejects(
      client.describe({}),
      (error) => error instanceof ConnectError && error.code === Code.ResourceExhausted,
    );
  });

  it("gives the library whole messages, in however many frames an agent sends them: it looks at all it has for each", async (t) => {
    const data = new Uint8Array(3000).fill(7);
    const message = create(LogsResponseSchema, { message: { case: "chunk", value: { data } } });
    const answer = framed(toBinary(LogsResponseSchema, message));
    const path = nextPath();
    const server = createNetServer((socket) => answerInBytes(socket, answer)).listen(path);
    const agent = createAgentClient({ kind: "unix", path });
    cleanups.push(() => void server.close(), agent.close);
    const chunks = t.mock.method(AgentConnection.prototype, "notifyResponseByteRead"); // The library tells of each.
    let received = 0;
    for await (const response of agent.client.logs({})) {
      received += response.message.case === "chunk" ? response.message.value.data.length : 0;
    }
    assert.equal(received, data.length);
    assert.ok(chunks.mock.callCount() < 10, `${chunks.mock.callCount()} chunks`);
  });
});
