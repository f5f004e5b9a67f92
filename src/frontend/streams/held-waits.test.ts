import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test, type TestContext } from "node:test";

import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";

import { builtPrograms } from "../../common/built-programs.ts";
import { createLogger } from "../../common/logger.ts";
import {
  ContainerService,
  WaitCondition,
  type WaitContainerRequest,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { serveBackend } from "../../../test/support/made-backend.ts";
import { untilTrue } from "../../../test/support/until.ts";
import { HandOver } from "./hand-over.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const id = "a".repeat(64);
const sinceUnixNs = 1_700_000_000_000_000_001n;
const accepted = { message: { case: "accepted", value: { id, sinceUnixNs } } } as const;

type Wait = ServiceImpl<typeof ContainerService>["waitContainer"];
const post = (path: string) => `POST ${path} HTTP/1.1\r\nHost: docker\r\n\r\n`;

function refused(): never {
  throw new ConnectError("No such container: web", Code.NotFound);
}

/** A frontend whose waits are held, and the backends that come one after the other. */
async function held(t: TestContext) {
  const directory = scratchDirectory();
  const path = join(directory, "backend.sock");
  const logger = createLogger({ level: "silent", process: "test" });
  const handOver = new HandOver(builtPrograms.agent, path, logger);
  let end = (): void => {};
  /** Starts a backend in place of the one before, which ends without a word. */
  const startBackend = async (waitContainer: Wait): Promise<void> => {
    end();
    end = await serveBackend(path, (router) => router.service(ContainerService, { waitContainer }));
  };
  const api = await serveApi(
    t,
    (router) => router.service(ContainerService, { waitContainer: refused }),
    ...([undefined, logger, undefined] as const),
    handOver,
  );
  t.after(async () => {
    handOver.close();
    end();
  });
  const client = connect(api.socket);
  t.after(() => client.destroy());
  return { client, startBackend, handOver };
}

test("a wait goes on without a frontend at the next backend, from the moment on that the one before has told", async (t) => {
  const { client, startBackend, handOver } = await held(t);
  const asked: WaitContainerRequest[] = [];
  await startBackend(async function* (request) {
    asked.push(request);
    yield accepted;
    await new Promise(() => {});
  });
  client.write(post("/v1.51/containers/web/wait?condition=removed"));
  const [head] = (await once(client, "data")) as [Buffer];
  assert.match(head.toString(), /^HTTP\/1.1 200 OK\r\n.*\r\nTransfer-Encoding: chunked\r\n\r\n$/s);
  handOver.close();
  await startBackend(async function* (request) {
    asked.push(request);
    yield accepted;
    yield { message: { case: "exited", value: { exitCode: 137n, error: "<lost>" } } };
  });
  const json = '{"Error":{"Message":"<lost>"},"StatusCode":137}\n';
  assert.equal(await text(client), `${json.length.toString(16)}\r\n${json}\r\n0\r\n\r\n`);
  assert.deepEqual(
    asked.map((request) => [request.container, request.condition, request.sinceUnixNs]),
    [
      ["web", WaitCondition.REMOVED, undefined],
      [id, WaitCondition.REMOVED, sinceUnixNs],
    ],
  );
});

test("a wait is asked for again once the frontend is gone: its container has to be started", async (t) => {
  const { client, startBackend, handOver } = await held(t);
  const asked: WaitContainerRequest[] = [];
  await startBackend(async function* (request) {
    asked.push(request);
    yield accepted;
    await new Promise(() => {});
  });
  client.write(post("/containers/web/wait?condition=next-exit"));
  await once(client, "data");
  handOver.close();
  await untilTrue(() => asked.length === 2);
  assert.deepEqual(
    asked.map((request) => [request.container, request.needsStart, request.sinceUnixNs]),
    [
      ["web", false, undefined],
      [id, true, sinceUnixNs],
    ],
  );
});

test("a wait that no backend can go on with never looks like an exit", async (t) => {
  const { client, startBackend } = await held(t);
  await startBackend(async function* () {
    yield accepted;
    await new Promise(() => {});
  });
  client.write(post("/containers/web/wait"));
  await once(client, "data");
  await startBackend(refused);
  assert.equal(await text(client), "");
});

test("a client that leaves ends the backend's call", async (t) => {
  const { client, startBackend } = await held(t);
  let isOver = false;
  await startBackend(async function* (_, { signal }) {
    signal.addEventListener("abort", () => {
      isOver = true;
    });
    yield accepted;
    await new Promise(() => {});
  });
  client.write(post("/containers/web/wait"));
  await once(client, "data");
  client.destroy();
  await untilTrue(() => isOver);
});

for (const sends of ["write", "end"] as const) {
  test(`a wait that is refused is answered by the frontend, as the last request of its connection (${sends})`, async (t) => {
    const { client, startBackend } = await held(t);
    await startBackend(refused);
    client[sends](post("/containers/web/wait") + post("/containers/behind/wait"));
    const answer = await text(client);
    assert.match(answer, /^HTTP\/1.1 404 .*\r\nConnection: close\r\n/s);
    assert.match(answer, /\r\n\r\n\{"message":"No such container: web"\}\n$/);
  });
}
