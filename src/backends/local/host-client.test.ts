/** Calls of the host process, against the library's server. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type ServerHttp2Session } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { forRequest, requestIdHeader } from "../../common/request-id.ts";
import { HostService } from "../../gen/sockerless/host/v1/host_pb.ts";
import { createHostClient, type HostClient, orHostError } from "./host-client.ts";

async function hostOf(
  t: TestContext,
  service: Partial<ServiceImpl<typeof HostService>>,
): Promise<HostClient> {
  return (await serve(t, service)).host;
}

async function serve(
  t: TestContext,
  service: Partial<ServiceImpl<typeof HostService>>,
): Promise<{ readonly host: HostClient; readonly path: string; end(): void }> {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(HostService, service) }),
  );
  server.on("session", (session) => void sessions.add(session));
  const directory = await mkdtemp(join(tmpdir(), "skl-host-client-"));
  const path = join(directory, "host.sock");
  const listening = once(server, "listening");
  server.listen(path);
  await listening;
  const host = createHostClient(path);
  t.after(async () => {
    host.close();
    server.close();
    await rm(directory, { recursive: true });
  });
  const end = (): void => {
    server.close();
    for (const session of sessions) {
      session.destroy();
    }
  };
  return { host, path, end };
}

test("a list of containers may be longer than any message of an agent", async (t) => {
  const containerId = "c".repeat(6 * 1024 * 1024);
  const { client } = await hostOf(t, { listContainers: () => ({ containers: [{ containerId }] }) });
  const { containers } = await client.listContainers({});
  assert.equal(containers[0]?.containerId.length, containerId.length);
});

test("a refusal comes with its words and its kind, and calls with several messages as before", async (t) => {
  const { client } = await hostOf(t, {
    createContainer: () => {
      throw new ConnectError("layer x is not unpacked", Code.NotFound);
    },
    async *takeUpload() {
      yield { message: { case: "ready" as const, value: {} } };
    },
  });
  await assert.rejects(orHostError(client.createContainer({})), {
    kind: "not-found",
    message: "layer x is not unpacked",
  });
  const messages: unknown[] = [];
  for await (const { message } of client.takeUpload({})) {
    messages.push(message.case);
  }
  assert.deepEqual(messages, ["ready"]);
});

test("the request that a call is made for is named, and the library makes no part of it", async (t) => {
  let seen: HandlerContext | undefined;
  const { client } = await hostOf(t, {
    createContainer: (_request, context) => {
      seen = context;
      return {};
    },
  });
  await forRequest("r1", () => client.createContainer({}));
  assert.equal(seen?.requestHeader.get(requestIdHeader), "r1");
  assert.equal(seen.requestHeader.get("user-agent"), "sockerless");
});

test("a time limit and a signal end a call", async (t) => {
  const { client } = await hostOf(t, {
    launchContainer: (_request, { signal }) => once(signal, "abort").then(() => ({})),
    prepareSpare: (_request, { signal }) => once(signal, "abort").then(() => ({})),
  });
  await assert.rejects(client.prepareSpare({}, { timeoutMs: 1 }), { code: Code.DeadlineExceeded });
  await assert.rejects(client.launchContainer({}, { signal: AbortSignal.abort() }), { code: Code.Canceled });
});

test("a host process that breaks off, or is not there, is named", async (t) => {
  const { host, path, end } = await serve(t, {
    launchContainer: (_request, { signal }) => {
      end();
      return once(signal, "abort").then(() => ({}));
    },
  });
  await assert.rejects(orHostError(host.client.launchContainer({})), {
    kind: "unavailable",
    message: /^the connection to the host process broke \(HTTP\/2 code \d+\)$/,
  });
  await assert.rejects(orHostError(host.client.launchContainer({})), {
    kind: "unavailable",
    message: new RegExp(`^cannot reach the host process at ${RegExp.escape(path)}: `),
  });
});
