import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test, type TestContext } from "node:test";

import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { WebSocket } from "ws";

import { toConnectError } from "../../common/connect-error.ts";
import { conflict } from "../../common/errors.ts";
import {
  type AgentService,
  type OpenAttach,
  SessionErrorReason,
} from "../../gen/sockerless/agent/v1/agent_pb.ts";
import {
  type AttachContainerRequest,
  ContainerService,
  ContainerStatus,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { callApi } from "../../../test/support/call-api.ts";
import { type ApiUnderTest, serveApi } from "../../../test/support/docker-api.ts";
import { channelText, hijackRequest, RawClient } from "../../../test/support/raw-client.ts";
import {
  cat,
  exited,
  type ScriptedAgent,
  serveAgent,
  SessionOutput,
  started,
} from "../../../test/support/scripted-agent.ts";
import { until } from "../../../test/support/until.ts";

const id = "c".repeat(64);
const query = "stream=1&stdin=1&stdout=1&stderr=1";

interface AttachUnderTest {
  readonly api: ApiUnderTest;
  readonly agent: ScriptedAgent;
  readonly requests: AttachContainerRequest[];
  /** True if the reservation was given up before it had its endpoint. */
  cancelled: boolean;
  /** The number of its calls that have ended, at whichever end. */
  callsOver: number;
  connect(): RawClient;
}

interface Container {
  readonly tty?: boolean;
  readonly running?: boolean;
  /** Resolves at the container's start: true for running, false for removed. */
  readonly start?: Promise<boolean>;
  /** Resolves when the backend answers that it takes an attachment. */
  readonly accepting?: Promise<void>;
  readonly status?: ContainerStatus;
  /** It has ended by the time when it is asked for again, and is not started. */
  readonly ends?: boolean;
  readonly startContainer?: () => Promise<void>;
}

async function serveAttach(
  t: TestContext,
  session: ServiceImpl<typeof AgentService>["session"],
  {
    tty = false,
    running = false,
    start = Promise.resolve(true),
    accepting = Promise.resolve(),
    status = ContainerStatus.RUNNING,
    ends = false,
    startContainer = () => Promise.resolve(),
  }: Container = {},
): Promise<AttachUnderTest> {
  const agent = await serveAgent(t, { session });
  const requests: AttachContainerRequest[] = [];
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      async *attachContainer(request, context) {
        requests.push(request);
        context.signal.addEventListener("abort", () => {
          under.callsOver += 1;
        });
        const hasEnded = ends && requests.length > 1;
        const accepted = { id, tty, openStdin: true, running: running && !hasEnded };
        await accepting;
        yield { message: { case: "accepted" as const, value: accepted } };
        const left = new Promise<"left">((resolve) => {
          context.signal.addEventListener("abort", () => resolve("left"));
        });
        const outcome = await Promise.race([hasEnded ? new Promise<never>(() => {}) : start, left]);
        if (outcome === "left") {
          under.cancelled = true;
        } else if (outcome) {
          const value = { endpoint: agent.endpoint, attachId: "a1" };
          yield { message: { case: "endpoint" as const, value } };
        }
      },
      inspectContainer: () => ({ container: { id, state: { status } } }),
      startContainer: async () => {
        await startContainer();
        return {};
      },
    }),
  );
  const under: AttachUnderTest = {
    api,
    agent,
    requests,
    cancelled: false,
    callsOver: 0,
    connect: () => {
      const client = new RawClient(api.socket);
      t.after(() => client.close());
      return client;
    },
  };
  return under;
}

test("an attachment before the start is answered at once and gets the first byte", async (t) => {
  const starting = Promise.withResolvers<boolean>();
  const { connect, requests } = await serveAttach(t, cat, { start: starting.promise });
  const client = connect().send(`${hijackRequest(`/v1.51/containers/web/attach?${query}`)}early`);
  assert.match(await client.answered(), /^HTTP\/1.1 101 UPGRADED\r\nContent-Type: .*multiplexed-stream/);
  starting.resolve(true);
  await client.says("early");
  client.socket.end();
  await client.end();
  assert.equal(channelText(client.body, 1), "early");
  assert.equal(requests[0]?.container, "web");
});

test("an attachment to a running container is answered once its agent has taken it", async (t) => {
  let taken = false;
  const { api, connect } = await serveAttach(
    t,
    async function* (messages) {
      if (!taken) {
        throw new ConnectError("out of order", Code.Internal);
      }
      yield* cat(messages);
    },
    { running: true },
  );
  const refused = await api.call("POST", `/v1.51/containers/web/attach?${query}`);
  assert.equal(refused.status, 500);
  const webSocket = new WebSocket(`ws+unix:${api.socket}:/v1.51/containers/web/attach/ws?${query}`);
  const [failure] = (await once(webSocket, "error")) as [Error];
  assert.match(failure.message, /500/);
  taken = true;
  const client = connect().send(`${hijackRequest(`/v1.51/containers/web/attach?${query}`)}early`);
  await client.says("early");
  assert.match(client.header, / 101 /);
  client.socket.end();
  await client.end();
  assert.equal(channelText(client.body, 1), "early");
});

test("a client that leaves a pending attachment cancels its reservation", async (t) => {
  const under = await serveAttach(t, cat, { start: new Promise(() => {}) });
  // Unread bytes turn the client's close into a reset, which a server sees on a unix socket too.
  const client = connect(under.api.socket).pause();
  t.after(() => client.destroy());
  client.write(hijackRequest(`/containers/web/attach?${query}`));
  await until(() => under.requests[0]);
  client.destroy();
  await until(() => under.callsOver > 0 || undefined);
});

test("a client that left before its attachment was answered leaves no reservation", async (t) => {
  const accepting = Promise.withResolvers<void>();
  const under = await serveAttach(t, cat, { start: new Promise(() => {}), accepting: accepting.promise });
  const client = connect(under.api.socket).pause();
  client.write(hijackRequest(`/containers/web/attach?${query}`));
  await until(() => under.requests[0]);
  const closed = once(client, "close");
  client.destroy();
  await closed;
  accepting.resolve();
  await until(() => under.callsOver > 0 || undefined);
});

test("a pending attachment whose container is removed ends", async (t) => {
  const { connect } = await serveAttach(t, cat, { start: Promise.resolve(false) });
  const client = connect().send(hijackRequest(`/containers/web/attach?${query}`));
  await client.end();
  assert.match(client.header, / 101 /);
  assert.equal(client.body.length, 0);
});

test("a container that does not start ends its attachment without a word: the start tells why", async (t) => {
  const reason = SessionErrorReason.START_FAILED;
  const failure = { message: { case: "error", value: { reason, message: "no such file", exitCode: 127 } } };
  for (const before of [[], [{ message: { case: "started", value: { tty: false } } }]] as const) {
    const { connect } = await serveAttach(t, async function* () {
      yield* before;
      yield failure as { message: { case: "error"; value: typeof failure.message.value } };
    });
    const client = connect().send(hijackRequest(`/containers/web/attach?${query}`));
    await client.end();
    assert.match(client.header, / 101 /);
    assert.equal(client.body.toString(), "");
  }
});

test("an agent that left between the answers is the end of the stream when the container is over", async (t) => {
  const { connect } = await serveAttach(
    t,
    // biome-ignore lint/correctness/useYield: it refuses instead
    async function* () {
      throw new ConnectError("leaving", Code.Unavailable);
    },
    { running: true, status: ContainerStatus.EXITED },
  );
  const client = connect().send(hijackRequest(`/containers/web/attach?${query}`));
  await client.end();
  assert.equal(client.body.length, 0);
});

test("an attachment whose start is pending is opened at the start's agent until that answers", async (t) => {
  const calls: string[] = [];
  const asked = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const startContainer = async () => {
    asked.resolve();
    await begun.promise;
  };
  const { connect, api, requests } = await serveAttach(
    t,
    async function* (messages) {
      calls.push("session");
      if (calls.length < 3) {
        throw new ConnectError("the way is cut", Code.Unavailable);
      }
      begun.resolve();
      yield* cat(messages);
    },
    { status: ContainerStatus.CREATED, startContainer },
  );
  const start = callApi(api.socket, "POST", "/containers/web/start");
  await asked.promise;
  const client = connect().send(hijackRequest(`/containers/web/attach?${query}`));
  await client.answered();
  client.socket.end("first");
  await client.end();
  assert.equal(channelText(client.body, 1), "first");
  assert.equal((await start).status, 204);
  assert.deepEqual([calls.length, requests.length], [3, 1]);
});

test("an attachment that no start waits for any more ends with an error: its first output is lost", async (t) => {
  const { connect } = await serveAttach(
    t,
    // biome-ignore lint/correctness/useYield: it refuses instead
    async function* () {
      throw new ConnectError("the way is cut", Code.Unavailable);
    },
    { status: ContainerStatus.CREATED },
  );
  const client = connect().send(hijackRequest(`/containers/web/attach?${query}`));
  await client.end();
  assert.match(client.body.toString(), /Error attaching: .*the way is cut/);
});

test("an agent that left while the container runs is asked for again", async (t) => {
  let calls = 0;
  const { connect, requests } = await serveAttach(
    t,
    async function* (messages) {
      if (++calls === 1) {
        throw new ConnectError("leaving", Code.Unavailable);
      }
      yield* cat(messages);
    },
    { running: true },
  );
  const client = connect().send(hijackRequest(`/containers/web/attach?${query}`));
  await client.answered();
  client.socket.end("again");
  await client.end();
  assert.equal(channelText(client.body, 1), "again");
  assert.equal(requests.length, 2);
});

test("an attachment to a container that ends while its agent is away does not wait for its next start", async (t) => {
  const under = await serveAttach(
    t,
    // biome-ignore lint/correctness/useYield: it refuses instead
    async function* () {
      throw new ConnectError("leaving", Code.Unavailable);
    },
    { running: true, ends: true },
  );
  const client = under.connect().send(hijackRequest(`/containers/web/attach?${query}`));
  await client.end();
  assert.match(client.header, / 101 /);
  assert.equal(client.body.length, 0);
  assert.equal(under.requests.length, 2);
  await until(() => under.callsOver === 2 || undefined);
});

test("what is asked for reaches the agent, and a terminal is not framed", async (t) => {
  const opened: OpenAttach[] = [];
  const { connect } = await serveAttach(
    t,
    async function* (messages) {
      for await (const { message } of messages) {
        if (message.case === "openAttach") {
          opened.push(message.value);
          break;
        }
      }
      yield started(true);
      yield new SessionOutput().of("stdout", "$ ");
      yield exited(0);
    },
    { tty: true },
  );
  const client = connect().send(hijackRequest("/containers/web/attach?stream=1&stdout=1&logs=1"));
  await client.end();
  assert.equal(client.body.toString(), "$ ");
  assert.match(client.header, /raw-stream/);
  const [open] = opened;
  assert.deepEqual(
    [open?.attachId, open?.stdin, open?.stdout, open?.stderr, open?.replayLog, open?.stream],
    ["a1", false, true, false, true, true],
  );
});

test("what cannot be attached to is an HTTP error in a text, and so are keys that are none", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      // biome-ignore lint/correctness/useYield: it refuses instead
      async *attachContainer() {
        throw toConnectError(conflict("container c is paused, unpause the container before attach"));
      },
    }),
  );
  const paused = await api.call("POST", `/containers/c/attach?${query}`);
  assert.deepEqual(
    [paused.status, paused.text],
    [409, "container c is paused, unpause the container before attach\r\n"],
  );
  const keys = await api.call("POST", `/containers/c/attach?${query}&detachKeys=ctrl-!`);
  assert.deepEqual([keys.status, keys.text], [400, "Invalid detach keys (ctrl-!) provided\r\n"]);
});

test("a WebSocket carries the bytes both ways", async (t) => {
  const { api } = await serveAttach(t, async function* (messages) {
    const output = new SessionOutput();
    for await (const { message } of messages) {
      if (message.case === "openAttach") {
        yield started();
      } else if (message.case === "stdin") {
        yield output.of("stderr", message.value.data);
        yield exited(0);
        return;
      }
    }
  });
  const client = new WebSocket(`ws+unix:${api.socket}:/v1.51/containers/web/attach/ws?${query}`);
  t.after(() => client.terminate());
  await once(client, "open");
  client.send("over the web");
  const [[data, binary], [code]] = await Promise.all([once(client, "message"), once(client, "close")]);
  assert.deepEqual([String(data), binary, code], ["over the web", true, 1000]);
});
