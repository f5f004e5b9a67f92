import assert from "node:assert/strict";
import { type IncomingMessage, request } from "node:http";
import { once } from "node:events";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { text } from "node:stream/consumers";
import { setTimeout } from "node:timers/promises";
import { test, type TestContext } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type ServiceImpl } from "@connectrpc/connect";

import {
  type AgentService,
  LogForm,
  type LogsRequest,
  type LogsResponseSchema,
  Stream,
} from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { builtPrograms } from "../../common/built-programs.ts";
import { createLogger } from "../../common/logger.ts";
import {
  ContainerService,
  type OpenLogsResponseSchema,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { type ApiUnderTest, serveApi } from "../../../test/support/docker-api.ts";
import { serveBackend } from "../../../test/support/made-backend.ts";
import { framesOf } from "../../../test/support/raw-client.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { type ScriptedAgent, serveAgent } from "../../../test/support/scripted-agent.ts";

import { HandOver } from "../streams/hand-over.ts";

type Logs = ServiceImpl<typeof AgentService>["logs"];
type Answer = MessageInitShape<typeof LogsResponseSchema>;

const chunk = (stream: Stream, offset: number, text: string): Answer => ({
  message: { case: "chunk", value: { stream, offset: BigInt(offset), data: Buffer.from(text) } },
});
const end = (totalBytes: number): Answer => ({
  message: { case: "end", value: { totalBytes: BigInt(totalBytes) } },
});

interface Served {
  readonly tty?: boolean;
  readonly details?: Record<string, string>;
  /** True: without a forwarder. */
  readonly byWorkers?: boolean;
}

async function serveLogs(
  t: TestContext,
  logs: Logs,
  { byWorkers = false, ...answer }: Served = {},
): Promise<{ readonly api: ApiUnderTest; readonly agent: ScriptedAgent; readonly opened: () => number }> {
  const agent = await serveAgent(t, { logs });
  let opened = 0;
  const openLogs = (): MessageInitShape<typeof OpenLogsResponseSchema> => {
    opened++;
    return { endpoint: agent.endpoint, ...answer };
  };
  const { api } = await serveBackendOf(t, openLogs, !byWorkers);
  return { api, agent, opened: () => opened };
}

/** An API whose logs are opened by a backend. */
async function serveBackendOf(
  t: TestContext,
  openLogs: ServiceImpl<typeof ContainerService>["openLogs"],
  hasForwarder = true,
): Promise<{ readonly api: ApiUnderTest; readonly handOver: HandOver | undefined }> {
  const logger = createLogger({ level: "silent", process: "test" });
  const path = join(scratchDirectory(), "backend.sock");
  const routes = (router: ConnectRouter): ConnectRouter => router.service(ContainerService, { openLogs });
  t.after(await serveBackend(path, routes));
  const handOver = hasForwarder ? new HandOver(builtPrograms.agent, path, logger) : undefined;
  t.after(() => handOver?.close());
  const api = await serveApi(t, routes, ...([undefined, logger, undefined] as const), handOver);
  return { api, handOver };
}

/** By the forwarder, or by a worker where there is none. */
const ways = [
  { way: "", tail: "", byWorkers: false },
  { way: "&tail=100", tail: "&tail=100", byWorkers: false },
  { way: "&follow=1", tail: "&follow=1", byWorkers: false },
  { way: " through a worker", tail: "", byWorkers: true },
  { way: "&follow=1 through a worker", tail: "&follow=1", byWorkers: true },
] as const;

for (const { way, tail, byWorkers } of ways) {
  test(`both streams come in frames, in their order${way}`, async (t) => {
    const { api } = await serveLogs(
      t,
      async function* () {
        yield chunk(Stream.STDOUT, 0, "a\n");
        yield chunk(Stream.STDERR, 2, "b\n");
        yield chunk(Stream.STDOUT, 4, "c\n");
        yield end(6);
      },
      { byWorkers },
    );
    const response = await api.call("GET", `/v1.51/containers/c/logs?stdout=1&stderr=1${tail}`);
    assert.equal(response.headers["content-type"], "application/vnd.docker.multiplexed-stream");
    assert.deepEqual(
      framesOf(Buffer.from(response.text)).map(({ channel, data }) => [channel, data.toString()]),
      [
        [1, "a\n"],
        [2, "b\n"],
        [1, "c\n"],
      ],
    );
    const older = await api.call("GET", "/v1.41/containers/c/logs?stdout=1");
    assert.equal(older.headers["content-type"], "application/vnd.docker.raw-stream");
  });

  test(`frames that the agent has cut reach the client as they are${way}`, async (t) => {
    const frames = Buffer.from(
      "\x01\0\0\0\0\0\0\x02a\n\x01\0\0\0\0\0\0\x02b\n\x02\0\0\0\0\0\0\x02c\n",
      "latin1",
    );
    const requests: LogsRequest[] = [];
    const { api } = await serveLogs(
      t,
      async function* (request) {
        requests.push(request);
        yield chunk(Stream.FRAMES, 0, frames.toString("latin1"));
        yield end(frames.length);
      },
      { byWorkers },
    );
    const response = await api.call("GET", `/v1.51/containers/c/logs?stdout=1&stderr=1${tail}`);
    assert.equal(response.text, frames.toString());
    assert.equal(requests[0]?.form, LogForm.FRAMES);
  });

  test(`a terminal's log is not framed${way}`, async (t) => {
    const { api } = await serveLogs(
      t,
      async function* () {
        yield chunk(Stream.STDOUT, 0, "$ \r\n");
        yield end(4);
      },
      { tty: true, byWorkers },
    );
    const response = await api.call("GET", `/v1.51/containers/c/logs?stdout=1${tail}`);
    assert.deepEqual(
      [response.headers["content-type"], response.text],
      ["application/vnd.docker.raw-stream", "$ \r\n"],
    );
  });
}

test("the query reaches the agent", async (t) => {
  const requests: LogsRequest[] = [];
  const { api } = await serveLogs(
    t,
    async function* (request) {
      requests.push(request);
      yield end(0);
    },
    { details: { b: "2 3", a: "1" } },
  );
  const query =
    "stdout=1&timestamps=true&details=1&tail=7&since=1700000000.5&until=2023-11-14T22:13:21.25%2B00:00";
  await api.call("GET", `/containers/c/logs?${query}`);
  await api.call("GET", "/containers/c/logs?stderr=1&tail=all&since=0&until=0");
  const [first, second] = requests;
  assert.deepEqual(
    [first?.stdout, first?.stderr, first?.timestamps, first?.tail, first?.linePrefix],
    [true, false, true, 7n, "a=1,b=2+3 "],
  );
  assert.deepEqual(
    [first?.sinceUnixNs, first?.untilUnixNs],
    [1_700_000_000_500_000_000n, 1_700_000_001_250_000_000n],
  );
  assert.deepEqual(
    [second?.sinceUnixNs, second?.untilUnixNs, second?.tail],
    [undefined, undefined, undefined],
  );
});

test("a request without a stream, or with a time that is none, is refused", async (t) => {
  const { api } = await serveLogs(t, async function* () {
    yield end(0);
  });
  const none = await api.call("GET", "/containers/c/logs");
  assert.deepEqual(
    [none.status, none.json()],
    [400, { message: "Bad parameters: you must choose at least one stream" }],
  );
  const time = await api.call("GET", "/containers/c/logs?stdout=1&since=yesterday");
  assert.equal(time.status, 400);
});

for (const { way, tail, byWorkers } of ways) {
  test(`an agent that is leaving is asked for again${way}`, async (t) => {
    let calls = 0;
    const { api, opened } = await serveLogs(
      t,
      async function* () {
        if (++calls < 3) {
          await setTimeout(150); // A refusal is one however late it comes.
          throw new ConnectError("leaving", Code.Unavailable);
        }
        yield chunk(Stream.STDOUT, 0, "there");
        yield end(5);
      },
      { byWorkers },
    );
    const response = await api.call("GET", `/containers/c/logs?stdout=1${tail}`);
    assert.deepEqual([response.status, response.text.slice(8), opened()], [200, "there", 3]);
  });
}

test("a log that is cut, or of which bytes are missing, never ends as if it were whole", async (t) => {
  for (const byWorkers of [false, true]) {
    const logs: Logs = async function* (request) {
      yield chunk(Stream.STDOUT, 0, "half");
      if (request.tail === 1n || request.tail === 101n) {
        yield end(5);
      }
    };
    const { api } = await serveLogs(t, logs, { byWorkers });
    for (const query of ["", "tail=1", "tail=100", "tail=101", "follow=1", "follow=1&tail=1"]) {
      const path = `/containers/c/logs?stdout=1&${query}`;
      await assert.rejects(api.call("GET", path), { code: "ECONNRESET" }, query);
    }
  }
});

for (const { way, tail, byWorkers } of ways) {
  test(`a log that fails says why behind what there is of it${way}`, async (t) => {
    const part = "x".repeat(100_000);
    const parts = 30; // More than a socket takes at once.
    const { api } = await serveLogs(
      t,
      async function* () {
        for (let number = 0; number < parts; number++) {
          yield chunk(Stream.STDOUT, number * part.length, part);
        }
        throw new ConnectError("the rest is refused", Code.Internal);
      },
      { byWorkers },
    );
    const outgoing = request({ socketPath: api.socket, path: `/containers/c/logs?stdout=1${tail}` }).end();
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    assert.equal(response.statusCode, 200);
    const received: Buffer[] = [];
    response.on("data", (data: Buffer) => received.push(data));
    await assert.rejects(finished(response), { code: "ECONNRESET" });
    const frames = framesOf(Buffer.concat(received));
    const last = frames.pop();
    assert.equal(Buffer.concat(frames.map(({ data }) => data)).toString(), part.repeat(parts));
    assert.deepEqual(
      [last?.channel, last?.data.toString()],
      [3, "Error grabbing logs: the rest is refused\n"],
    );
  });

  test(`a client that leaves a log ends it at the agent${way}`, async (t) => {
    const left = Promise.withResolvers<void>();
    const { api } = await serveLogs(
      t,
      async function* (_, context) {
        yield chunk(Stream.STDOUT, 0, "so far");
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
        left.resolve();
      },
      { byWorkers },
    );
    const outgoing = request({ socketPath: api.socket, path: `/containers/c/logs?stdout=1${tail}` }).end();
    outgoing.on("error", () => {});
    const [response] = await once(outgoing, "response");
    await once(response, "data");
    outgoing.destroy();
    await left.promise;
  });
}

test("a followed log goes on without its frontend", async (t) => {
  const goOn = Promise.withResolvers<void>();
  const agent = await serveAgent(t, {
    async *logs() {
      yield chunk(Stream.STDOUT, 0, "before, ");
      await goOn.promise;
      yield chunk(Stream.STDOUT, 8, "after");
      yield end(13);
    },
  });
  const { api, handOver } = await serveBackendOf(t, () => ({ endpoint: agent.endpoint, tty: true }));
  const path = "/containers/c/logs?stdout=1&follow=1";
  const outgoing = request({ socketPath: api.socket, path, agent: false }).end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  await api.server.close();
  handOver?.close();
  goOn.resolve();
  assert.equal(await text(response), "before, after");
});

test("a log comes over another call where nobody takes the client that its agent has offered to take", async (t) => {
  const asked: boolean[] = [];
  const { api } = await serveLogs(
    t,
    async function* ({ handOver }, { signal }) {
      asked.push(handOver);
      if (handOver) {
        yield { message: { case: "offer", value: { socket: "/nowhere", token: "t" } } };
        await once(signal, "abort");
        return;
      }
      yield chunk(Stream.STDOUT, 0, "there");
      yield end(5);
    },
    { tty: true },
  );
  const response = await api.call("GET", "/containers/c/logs?stdout=1");
  assert.deepEqual([response.status, response.text, asked], [200, "there", [true, false]]);
});

test("a log's agent is offered the client unless it is followed", async (t) => {
  const asked: boolean[] = [];
  const { api } = await serveLogs(t, async function* ({ handOver }) {
    asked.push(handOver);
    yield end(0);
  });
  for (const query of ["follow=1", "tail=100"]) {
    assert.equal((await api.call("GET", `/containers/c/logs?stdout=1&${query}`)).status, 200);
  }
  assert.deepEqual(asked, [false, true]);
});

test("a followed log that is silent is answered at once", async (t) => {
  const { api } = await serveLogs(t, async function* (_, context) {
    yield { message: { case: "heartbeat", value: {} } };
    await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
  });
  const outgoing = request({
    socketPath: api.socket,
    path: "/containers/c/logs?stdout=1&follow=1",
  }).end();
  t.after(() => outgoing.destroy());
  const [response] = await once(outgoing, "response");
  assert.equal(response.statusCode, 200);
});

test("a client that leaves a followed log ends it at the agent", async (t) => {
  const left = Promise.withResolvers<void>();
  const { api } = await serveLogs(t, async function* (_, context) {
    yield chunk(Stream.STDOUT, 0, "so far");
    await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
    left.resolve();
  });
  const outgoing = request({ socketPath: api.socket, path: "/containers/c/logs?stdout=1&follow=1" }).end();
  outgoing.on("error", () => {});
  const [response] = await once(outgoing, "response");
  await once(response, "data");
  outgoing.destroy();
  await left.promise;
});
