/** Unary calls against the library's server and against agents that answer what they like. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { constants, createServer } from "node:http2";
import { createServer as createNetServer, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { answerInBytes } from "../../test/support/frame-by-frame-agent.ts";
import { RawAgent } from "../../test/support/raw-agent.ts";
import { untilTrue } from "../../test/support/until.ts";
import { toConnectError } from "../common/connect-error.ts";
import { conflict, fromUnknown } from "../common/errors.ts";
import {
  AgentService,
  HelloResponseSchema,
  WatchResponseSchema,
} from "../gen/sockerless/agent/v1/agent_pb.ts";
import { type AgentClient, createAgentClient } from "./client.ts";
import { framed } from "./grpc-request.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

async function agentOf(
  t: TestContext,
  service: Partial<ServiceImpl<typeof AgentService>>,
): Promise<AgentClient> {
  const server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(AgentService, service) }),
  );
  return await clientTo(t, server);
}

async function clientTo(
  t: TestContext,
  server: { listen(path: string): unknown; close(): unknown },
): Promise<AgentClient> {
  const directory = scratchDirectory();
  const path = join(directory, "agent.sock");
  const listening = once(server as never, "listening");
  server.listen(path);
  await listening;
  const agent = createAgentClient({ kind: "unix", path });
  t.after(async () => {
    agent.close();
    server.close();
  });
  return agent;
}

async function rawAgent(t: TestContext): Promise<{ readonly raw: RawAgent; readonly agent: AgentClient }> {
  const raw = new RawAgent();
  await raw.listen();
  const agent = createAgentClient(raw.address);
  t.after(async () => {
    agent.close();
    await raw.close();
  });
  return { raw, agent };
}

const hello = framed(toBinary(HelloResponseSchema, create(HelloResponseSchema, { version: "1" })));

test("an agent's answer has only what its fields hold", async (t) => {
  const { raw, agent } = await rawAgent(t);
  const end = timestampFromMs(1_000);
  const $unknown = [{ no: 100, wireType: WireType.LengthDelimited, data: Uint8Array.of(2, 1, 1) }];
  const health = { end: { ...end, $unknown }, $unknown };
  const message = create(WatchResponseSchema, { event: { case: "health", value: health } });
  raw.answer = { bytes: framed(toBinary(WatchResponseSchema, { ...message, $unknown })), status: "0" };
  const answers = await Array.fromAsync(agent.client.watch({}));
  assert.deepEqual(answers, [create(WatchResponseSchema, { event: { case: "health", value: { end } } })]);
});

test("an answer of many packets is understood, and an empty message is one", async (t) => {
  const specification = new Uint8Array(3_000_000).fill(7);
  const { client } = await agentOf(t, { describe: () => ({ specification }), names: () => ({}) });
  assert.deepEqual((await client.describe({})).specification, specification);
  await client.names({});
});

test("an answer in frames of one byte is copied a few times, and not again for each of them", async (t) => {
  const message = create(HelloResponseSchema, { version: "1".repeat(3000) });
  const answer = framed(toBinary(HelloResponseSchema, message));
  const { client } = await clientTo(
    t,
    createNetServer((socket) => answerInBytes(socket, answer)),
  );
  const joins = t.mock.method(Buffer, "concat");
  const copies = t.mock.method(Uint8Array.prototype, "set");
  assert.equal((await client.hello({})).version, message.version);
  const joined = joins.mock.calls.reduce((pieces, { arguments: [list] }) => pieces + list.length, 0);
  const copied = copies.mock.calls.reduce((bytes, { arguments: [from] }) => bytes + from.length, 0);
  assert.ok(joined + copied < 5 * answer.length, `${joined} pieces joined, ${copied} bytes copied`);
});

test("an error keeps its kind and its words", async (t) => {
  const { client } = await agentOf(t, {
    hello: () => {
      throw toConnectError(conflict("the agent is busy – très"));
    },
  });
  await assert.rejects(client.hello({}), (error) => {
    const { kind, message } = fromUnknown(error);
    assert.deepEqual([kind, message], ["conflict", "the agent is busy – très"]);
    return true;
  });
});

test("a call that is refused while its message is being written has lost its agent", async (t) => {
  const server = createServer({ settings: { initialWindowSize: 0 } });
  server.on("stream", (stream) => {
    stream.on("error", () => {}); // Node tells of the reset here, too.
    stream.close(constants.NGHTTP2_REFUSED_STREAM);
  });
  const { client } = await clientTo(t, server);
  await assert.rejects(client.hello({}), { code: Code.Unavailable });
  const changes = client.changes({});
  await assert.rejects(changes[Symbol.asyncIterator]().next(), { code: Code.Unavailable });
});

test("a call that times out ends, here and at the agent, which received the limit", async (t) => {
  const given: (number | undefined)[] = [];
  let hasEnded = false;
  const { client } = await agentOf(t, {
    hello: async (_, context) => {
      given.push(context.timeoutMs());
      if (!context.signal.aborted) {
        await once(context.signal, "abort");
      }
      hasEnded = true;
      return {};
    },
  });
  // Long enough for a busy machine to connect: a call that times out before that never reaches the agent.
  await assert.rejects(client.hello({}, { timeoutMs: 1_000 }), { code: Code.DeadlineExceeded });
  await untilTrue(() => hasEnded);
  assert.ok(given.every((limit) => limit !== undefined && limit <= 1_000));
});

test("a call times out even while its connection is not accepted", async (t) => {
  const sockets: Socket[] = [];
  const { client } = await clientTo(
    t,
    createNetServer((socket) => void sockets.push(socket.on("error", () => {}))),
  );
  await assert.rejects(client.hello({}, { timeoutMs: 20 }), { code: Code.DeadlineExceeded });
  for (const socket of sockets) {
    socket.destroy();
  }
});

test("a cancelled call ends with the reason, and the agent is notified", async (t) => {
  let calls = 0;
  let ends = 0;
  const { client } = await agentOf(t, {
    hello: async (_, { signal }) => {
      calls += 1;
      await once(signal, "abort");
      ends += 1;
      return {};
    },
  });
  const leaving = new AbortController();
  const call = client.hello({}, { signal: leaving.signal });
  await untilTrue(() => calls === 1);
  leaving.abort(new Error("the client has left"));
  await assert.rejects(call, /the client has left/);
  await untilTrue(() => ends === 1);
  await assert.rejects(client.hello({}, { signal: leaving.signal }), /the client has left/);
  assert.equal(calls, 1);
});

test("an answer is one message with its status, and nothing less or more", async (t) => {
  const { raw, agent } = await rawAgent(t);
  raw.answer = { bytes: hello, status: "0" };
  assert.equal((await agent.client.hello({})).version, "1");
  for (const [bytes, status, code] of [
    [Buffer.alloc(0), "0", Code.Unimplemented],
    [Buffer.concat([hello, hello]), "0", Code.Unimplemented],
    [hello.subarray(0, hello.length - 1), "0", Code.Internal],
    [Buffer.concat([Buffer.from([1]), hello.subarray(1)]), "0", Code.Internal],
    [framed(Buffer.from([0xff])), "0", Code.Internal],
    [hello, undefined, Code.Unavailable],
    [hello, "9", Code.FailedPrecondition],
    [hello, "x", Code.Internal],
  ] as const) {
    raw.answer = { bytes, status };
    await assert.rejects(agent.client.hello({}), (error) => {
      assert.ok(error instanceof ConnectError);
      assert.equal(error.code, code, `${bytes.toString("hex")} ${status}`);
      return true;
    });
  }
});

test("anything but gRPC is no answer", async (t) => {
  const server = createServer((_, response) => response.writeHead(502).end("<html>"));
  const { client } = await clientTo(t, server);
  await assert.rejects(client.hello({}), { code: Code.Unavailable });
});
