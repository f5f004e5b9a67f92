import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";

import { toConnectError } from "../../common/connect-error.ts";
import { conflict, notFound, unavailable } from "../../common/errors.ts";
import { type AgentService, SessionErrorReason } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { type ExecConfigSchema, ExecService } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { garbageCollection } from "../../../test/support/garbage-collection.ts";
import { type ApiUnderTest, serveApi } from "../../../test/support/docker-api.ts";
import { channelText, framesOf, hijackRequest, RawClient } from "../../../test/support/raw-client.ts";
import {
  cat,
  exited,
  type ScriptedAgent,
  serveAgent,
  SessionOutput,
  started,
} from "../../../test/support/scripted-agent.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";
import { until } from "../../../test/support/until.ts";

const id = "e".repeat(64);
const attached = { cmd: ["sh"], attachStdin: true, attachStdout: true, attachStderr: true };

type Session = ServiceImpl<typeof AgentService>["session"];

interface ExecUnderTest {
  readonly api: ApiUnderTest;
  readonly agent: ScriptedAgent;
  /** IDs whose end the backend was asked for. */
  readonly awaited: string[];
  connect(): RawClient;
}

async function serveExec(
  t: TestContext,
  session: Session,
  config: MessageInitShape<typeof ExecConfigSchema> = attached,
  own: Partial<ServiceImpl<typeof ExecService>> = {},
): Promise<ExecUnderTest> {
  const agent = await serveAgent(t, { session });
  const awaited: string[] = [];
  const api = await serveApi(t, (router) =>
    router.service(ExecService, {
      startExec: ({ execId }) => {
        if (execId !== id) {
          throw toConnectError(notFound(`No such exec instance: ${execId}`));
        }
        return { endpoint: agent.endpoint, config, containerId: "c".repeat(64) };
      },
      awaitExec: ({ execId }) => {
        awaited.push(execId);
        return { exitCode: 0 };
      },
      ...own,
    }),
  );
  const connect = (): RawClient => {
    const client = new RawClient(api.socket);
    t.after(() => client.close());
    return client;
  };
  return { api, agent, awaited, connect };
}

const forms = [
  { name: "with an Upgrade header", upgrade: true, chunked: false },
  { name: "without an Upgrade header", upgrade: false, chunked: false },
  { name: "with an Upgrade header and a chunked body", upgrade: true, chunked: true },
  { name: "without an Upgrade header and with a chunked body", upgrade: false, chunked: true },
];

for (const { name, upgrade, chunked } of forms) {
  test(`body and first stdin in one packet reach where they belong, ${name}`, async (t) => {
    const { connect, awaited } = await serveExec(t, cat);
    const client = connect();
    const request = hijackRequest(`/v1.51/exec/${id}/start`, { body: "{}", upgrade, chunked });
    // It looks like a request, and must not be taken for one.
    client.send(`${request}GET /info HTTP/1.1\r\nHost: x\r\n\r\n`);
    await client.answered();
    assert.match(client.header, upgrade ? /^HTTP\/1.1 101 UPGRADED\r\n/ : /^HTTP\/1.1 200 OK\r\n/);
    client.socket.end("last");
    await client.end();
    assert.equal(channelText(client.body, 1), "GET /info HTTP/1.1\r\nHost: x\r\n\r\nlast");
    assert.deepEqual(awaited, [id]);
  });
}

test("the answer's content type follows the API version and the terminal", async (t) => {
  const { connect } = await serveExec(t, async function* () {
    yield started();
    yield exited(0);
  });
  const typeOf = async (version: string, body: string): Promise<string | undefined> => {
    const client = connect().send(hijackRequest(`/v${version}/exec/${id}/start`, { body }));
    await client.end();
    return /Content-Type: (.*)/.exec(client.header)?.[1];
  };
  assert.equal(await typeOf("1.51", "{}"), "application/vnd.docker.multiplexed-stream");
  assert.equal(await typeOf("1.51", '{"Tty":true}'), "application/vnd.docker.raw-stream");
  assert.equal(await typeOf("1.41", "{}"), "application/vnd.docker.raw-stream");
});

test("stdout and stderr are told apart, in their order", async (t) => {
  const { connect } = await serveExec(t, async function* () {
    const output = new SessionOutput();
    yield started();
    yield output.of("stdout", "a");
    yield output.of("stdout", "b");
    yield output.of("stderr", "c");
    yield output.of("stdout", "d");
    yield exited(3);
  });
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.end();
  const frames = framesOf(client.body);
  assert.equal(frames.map(({ data }) => data.toString()).join(""), "abcd");
  assert.equal(channelText(client.body, 2), "c");
});

test("a stream keeps nothing of what the backend told for its start", async (t) => {
  const collect = garbageCollection();
  const length = 8 * 1024 ** 2;
  const { connect } = await serveExec(t, cat, attached, {
    startExec: () => {
      const clientCertificates = [new Uint8Array(length)]; // Unused: the agent is on this machine.
      return { endpoint: { ...endpoint, clientCertificates }, config: attached, containerId: "c".repeat(64) };
    },
  });
  const { endpoint } = await serveAgent(t, { session: cat });
  const before = process.memoryUsage().arrayBuffers;
  const client = connect().send(`${hijackRequest(`/exec/${id}/start`, { body: "{}" })}x`);
  await until(() => client.body.includes("x") || undefined);
  await until(() => {
    collect(); // Buffers are freed by a thread of V8's, some time after their collection.
    return process.memoryUsage().arrayBuffers - before < length / 2 || undefined;
  });
  client.socket.end();
  await client.end();
});

test("a terminal's bytes come as they are", async (t) => {
  const { connect } = await serveExec(
    t,
    async function* () {
      yield started(true);
      yield new SessionOutput().of("stdout", "\u001b[1m$ ");
      yield exited(0);
    },
    { ...attached, tty: true },
  );
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: '{"Tty":true}' }));
  await client.end();
  assert.equal(client.body.toString(), "\u001b[1m$ ");
});

test("the connection closes only once the backend knows the exit", async (t) => {
  const known = Promise.withResolvers<void>();
  const { connect } = await serveExec(
    t,
    async function* () {
      yield started();
      yield new SessionOutput().of("stdout", "done");
      yield exited(0);
    },
    attached,
    {
      awaitExec: async () => {
        await known.promise;
        return { exitCode: 0 };
      },
    },
  );
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.says("done");
  assert.equal(client.ended, false);
  known.resolve();
  await client.end();
});

test("an exec that ends closes the connection although the client keeps stdin open", async (t) => {
  const { connect } = await serveExec(t, async function* () {
    yield started();
    yield exited(0);
  });
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.end();
  assert.equal(client.socket.writableEnded, false);
});

test("a cut stream is told in the stream and never ends as a success", async (t) => {
  const { connect, agent, awaited } = await serveExec(t, async function* (_, context) {
    yield started();
    yield new SessionOutput().of("stdout", "half");
    await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
  });
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.says("half");
  agent.cut();
  await client.end();
  assert.match(channelText(client.body, 3), /agent/);
  assert.deepEqual(awaited, [id], "what the client asks next is known first");
});

test("a stream that was cut for good leaves an exit code that is no success", async (t) => {
  const { connect, api, agent } = await serveExec(
    t,
    async function* (_, context) {
      yield started();
      yield new SessionOutput().of("stdout", "half");
      await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
    },
    attached,
    {
      awaitExec: () => {
        throw toConnectError(unavailable("nobody knows"));
      },
      inspectExec: () => ({ id, running: true }),
    },
  );
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.says("half");
  agent.cut();
  await client.end();
  const { Running, ExitCode } = (await api.call("GET", `/v1.51/exec/${id}/json`)).json() as {
    readonly Running: boolean;
    readonly ExitCode: number | null;
  };
  assert.deepEqual([Running, ExitCode], [true, 255]);
});

test("the exit code of an exec is told although its container was removed under it", async (t) => {
  const gone = (): never => {
    throw toConnectError(notFound(`No such exec instance: ${id}`));
  };
  const containerId = "c".repeat(64);
  const { connect, api } = await serveExec(
    t,
    async function* () {
      yield started();
      yield exited(137);
    },
    attached,
    {
      awaitExec: gone,
      inspectExec: gone,
    },
  );
  assert.equal((await api.call("GET", `/v1.51/exec/${id}/json`)).status, 404);
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.end();
  const inspected = await api.call("GET", `/v1.51/exec/${id}/json`);
  assertDescribed("get", "/exec/{id}/json", 200, inspected.json());
  const { Running, ExitCode, ContainerID, OpenStdin, ProcessConfig } = inspected.json() as Record<
    string,
    unknown
  >;
  assert.deepEqual([Running, ExitCode, ContainerID, OpenStdin], [false, 137, containerId, true]);
  assert.equal((ProcessConfig as { entrypoint: string }).entrypoint, "sh");
});

for (const code of [0, 3]) {
  test(`a stream that was cut is told as 255 where its process ended with ${code}`, async (t) => {
    const { connect, api, agent } = await serveExec(
      t,
      async function* (_, context) {
        yield started();
        yield new SessionOutput().of("stdout", "half");
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
      },
      attached,
      {
        awaitExec: () => ({}),
        inspectExec: () => ({ id, running: false, exitCode: code }),
      },
    );
    const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
    await client.says("half");
    agent.cut();
    await client.end();
    const { ExitCode } = (await api.call("GET", `/v1.51/exec/${id}/json`)).json() as {
      readonly ExitCode: number | null;
    };
    assert.equal(ExitCode, 255);
  });
}

test("a stream that closes without an exit is an error although gRPC says OK", async (t) => {
  const { connect, awaited } = await serveExec(t, async function* () {
    yield started();
    yield new SessionOutput().of("stdout", "half");
  });
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.end();
  assert.match(channelText(client.body, 3), /ended before its last message/);
  assert.deepEqual(awaited, [id], "what the client asks next is known first");
});

test("a command that cannot be started is told in the stream, once its code is known", async (t) => {
  const { connect, awaited } = await serveExec(t, async function* () {
    yield {
      message: {
        case: "error",
        value: { reason: SessionErrorReason.START_FAILED, message: "exec: no such file", exitCode: 127 },
      },
    };
  });
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.end();
  assert.match(client.header, /^HTTP\/1.1 101 /);
  assert.equal(channelText(client.body, 1), "exec: no such file\r\n");
  assert.deepEqual(awaited, [id]);
});

test("the header is sent before the exec is opened", async (t) => {
  const answered = Promise.withResolvers<void>();
  const { connect } = await serveExec(t, async function* () {
    await answered.promise;
    yield started();
    yield new SessionOutput().of("stdout", "first");
    yield exited(0);
  });
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  assert.match(await client.answered(), /^HTTP\/1.1 101 /);
  answered.resolve();
  await client.end();
  assert.equal(channelText(client.body, 1), "first");
});

test("a second start is refused in the stream", async (t) => {
  const refusal = `exec command ${id} has already run`;
  const api = await serveApi(t, (router) =>
    router.service(ExecService, { startExec: () => ({ refusal }), inspectExec: () => ({ id, exitCode: 3 }) }),
  );
  const client = new RawClient(api.socket).send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  t.after(() => client.close());
  await client.end();
  assert.match(client.header, /^HTTP\/1.1 101 /);
  assert.equal(channelText(client.body, 1), `${refusal}\r\n`);
  const { ExitCode } = (await api.call("GET", `/exec/${id}/json`)).json() as { readonly ExitCode: number };
  assert.equal(ExitCode, 3, "the first start's");
});

test("what the backend refuses is an HTTP error, what the agent refuses is told in the stream", async (t) => {
  const { connect, api } = await serveExec(t, async function* () {
    yield {
      message: {
        case: "error",
        value: { reason: SessionErrorReason.PAUSED, message: "the container is paused", exitCode: 0 },
      },
    };
  });
  const paused = connect().send(hijackRequest(`/exec/${id}/start`, { body: '{"Tty":true}' }));
  await paused.end();
  assert.match(paused.header, /^HTTP\/1.1 101 /);
  assert.equal(paused.body.toString(), "the container is paused\r\n");
  const unknown = await api.call("POST", "/exec/nope/start", { body: {} });
  assert.equal(unknown.status, 404);
  assert.deepEqual(unknown.json(), { message: "No such exec instance: nope" });
  const malformed = await api.call("POST", `/exec/${id}/start`, { body: "{" });
  assert.equal(malformed.status, 400);
});

test("a detached exec is answered with an empty body once it runs", async (t) => {
  const opened: boolean[] = [];
  const { api } = await serveExec(t, async function* (requests) {
    for await (const { message } of requests) {
      if (message.case === "openExec") {
        opened.push(message.value.detach);
        break;
      }
    }
    yield started();
    yield { message: { case: "detached", value: {} } };
  });
  const response = await api.call("POST", `/exec/${id}/start`, { body: { Detach: true } });
  assert.deepEqual({ status: response.status, text: response.text }, { status: 200, text: "" });
  assert.deepEqual(opened, [true]);
});

test("the detach keys end the stream and not the process, across packets", async (t) => {
  const stdin: Buffer[] = [];
  let left = false;
  const { connect, awaited } = await serveExec(
    t,
    async function* (requests, context) {
      context.signal.addEventListener("abort", () => {
        left = true;
      });
      yield started(true);
      for await (const { message } of requests) {
        if (message.case === "stdin") {
          stdin.push(Buffer.from(message.value.data));
        }
        assert.notEqual(message.case, "closeStdin");
      }
    },
    { ...attached, tty: true, detachKeys: "ctrl-a,b" },
  );
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: '{"Tty":true}' }));
  await client.answered();
  client.send("x\u0001y\u0001");
  await until(() => Buffer.concat(stdin).length === 3 || undefined);
  client.send("b");
  await client.end();
  await until(() => left || undefined);
  assert.equal(Buffer.concat(stdin).toString(), "x\u0001y");
  assert.deepEqual(awaited, []);
});

test("a client that leaves ends its session", async (t) => {
  const left = Promise.withResolvers<void>();
  let hasLeft: boolean = false;
  const { connect } = await serveExec(t, async function* (requests, context) {
    void (async () => {
      for await (const { message } of requests) {
        if (message.case === "leave") {
          hasLeft = true;
          left.resolve();
        }
      }
    })().catch(() => undefined);
    const output = new SessionOutput();
    yield started();
    // Writing is how one finds out that a peer on a unix socket has closed.
    while (!hasLeft && !context.signal.aborted) {
      yield output.of("stdout", "tick");
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
  const client = connect().send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  await client.says("tick");
  client.close();
  await left.promise;
});

test("an agent that is gone has its exec refused as the backend does once it knows of the end", async (t) => {
  const agent = await serveAgent(t, {});
  const api = await serveApi(t, (router) =>
    router.service(ExecService, {
      startExec: ({ access }) => {
        if (access?.failedGeneration === 7n) {
          throw toConnectError(notFound(`No such exec instance: ${id}`));
        }
        const address = { case: "unixPath", value: `${agent.socket}.gone` } as const;
        return {
          endpoint: { ...agent.endpoint, address, generation: 7n },
          config: attached,
          containerId: "c1",
        };
      },
      inspectExec: () => ({ id, running: true }),
    }),
  );
  const client = new RawClient(api.socket).send(hijackRequest(`/exec/${id}/start`, { body: "{}" }));
  t.after(() => client.close());
  await client.end();
  assert.equal(channelText(client.body, 1), `No such exec instance: ${id}\r\n`);
  const { ExitCode } = (await api.call("GET", `/exec/${id}/json`)).json() as { readonly ExitCode: number };
  assert.equal(ExitCode, 126);
  const response = await api.call("POST", `/exec/${id}/start`, { body: { Detach: true } });
  assert.deepEqual(
    { status: response.status, body: response.json() },
    { status: 404, body: { message: `No such exec instance: ${id}` } },
  );
});

test("an exec without a command, or with keys that are none, is refused", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ExecService, {
      createExec: () => {
        throw toConnectError(conflict("unreachable"));
      },
    }),
  );
  const empty = await api.call("POST", "/containers/c/exec", { body: { Cmd: [] } });
  assert.deepEqual([empty.status, empty.json()], [400, { message: "No exec command specified" }]);
  const keys = await api.call("POST", "/containers/c/exec", { body: { Cmd: ["a"], DetachKeys: "ctrl-!" } });
  assert.deepEqual([keys.status, keys.json()], [400, { message: "Invalid escape keys (ctrl-!) provided" }]);
});

test("an inspect has Go's shape", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ExecService, {
      inspectExec: () => ({
        id,
        containerId: "c",
        exitCode: 3,
        pid: 7n,
        config: { cmd: ["sh", "-c", "exit 3"], tty: true, detachKeys: "ctrl-p,ctrl-q" },
        openStdout: true,
      }),
    }),
  );
  const response = await api.call("GET", `/exec/${id}/json`);
  assert.deepEqual(response.json(), {
    ID: id,
    Running: false,
    ExitCode: 3,
    ProcessConfig: { tty: true, entrypoint: "sh", arguments: ["-c", "exit 3"], privileged: false },
    OpenStdin: false,
    OpenStderr: false,
    OpenStdout: true,
    CanRemove: false,
    ContainerID: "c",
    DetachKeys: "EBE=",
    Pid: 7,
  });
});
