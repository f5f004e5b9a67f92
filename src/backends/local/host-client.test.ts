/** Calls of the host process, against the library's server. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerHttp2Session } from "node:http2";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { forRequest, requestIdHeader } from "../../common/request-id.ts";
import { until } from "../../../test/support/until.ts";
import { HostService } from "../../gen/sockerless/host/v1/host_pb.ts";
import { createHostClient, type HostClient, type HostClientOptions, orHostError } from "./host-client.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

async function hostOf(
  t: TestContext,
  service: Partial<ServiceImpl<typeof HostService>>,
): Promise<HostClient> {
  return (await serve(t, service)).host;
}

/** @param socket of one that has ended, whose place it takes */
async function serve(
  t: TestContext,
  service: Partial<ServiceImpl<typeof HostService>>,
  { socket, ...options }: HostClientOptions & { readonly socket?: string } = {},
): Promise<{ readonly host: HostClient; readonly path: string; end(): void }> {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(HostService, service) }),
  );
  server.on("session", (session) => void sessions.add(session));
  const directory = scratchDirectory();
  const path = socket ?? join(directory, "host.sock");
  const listening = once(server, "listening");
  server.listen(path);
  await listening;
  const host = createHostClient(path, options);
  t.after(async () => {
    host.close();
    server.close();
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
  const { containers } = await client.listContainers({}, { timeoutMs: 60_000 });
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

test("the request that a call is made for is named", async (t) => {
  let seen: HandlerContext | undefined;
  const { client } = await hostOf(t, {
    createContainer: (_request, context) => {
      seen = context;
      return {};
    },
  });
  await forRequest("r1", () => client.createContainer({}));
  assert.equal(seen?.requestHeader.get(requestIdHeader), "r1");
});

test("a time limit and a signal end a call", async (t) => {
  const { client } = await hostOf(t, {
    launchContainer: (_request, { signal }) => once(signal, "abort").then(() => ({})),
    releaseContainer: (_request, { signal }) => once(signal, "abort").then(() => ({ kept: false })),
  });
  await assert.rejects(client.releaseContainer({}, { timeoutMs: 1 }), { code: Code.DeadlineExceeded });
  await assert.rejects(client.launchContainer({}, { signal: AbortSignal.abort() }), { code: Code.Canceled });
});

test("a host process that fails, or is missing, is reported if no other one replaces it", async (t) => {
  const { host, path, end } = await serve(
    t,
    {
      launchContainer: (_request, { signal }) => {
        end();
        return once(signal, "abort").then(() => ({}));
      },
    },
    { awayMs: 0 },
  );
  await assert.rejects(orHostError(host.client.launchContainer({})), {
    kind: "unavailable",
    message: /^the connection to the host process broke \(HTTP\/2 code \d+\)$/,
  });
  await assert.rejects(orHostError(host.client.launchContainer({})), {
    kind: "unavailable",
    message: new RegExp(`^cannot reach the host process at ${RegExp.escape(path)}: `),
  });
});

test("a call under way when the host process dies is made again of the next one", async (t) => {
  const seen: string[] = [];
  const dies = async (died: () => void, signal: AbortSignal): Promise<never> => {
    died();
    await once(signal, "abort");
    throw new ConnectError("nobody hears this");
  };
  const first = await serve(t, {
    launchContainer: ({ containerId }, { signal }) => {
      seen.push(containerId);
      return dies(first.end, signal);
    },
  });
  const launched = first.host.client.launchContainer({ containerId: "c1" });
  await until(() => seen.length === 1 || undefined);
  const second = await serve(
    t,
    {
      launchContainer: ({ containerId }) => ({ agentSocket: `agent of ${containerId}` }),
      async *takeUpload({ uploadId }, { signal }) {
        seen.push(uploadId);
        yield await dies(second.end, signal);
      },
    },
    { socket: first.path },
  );
  assert.equal((await launched).agentSocket, "agent of c1");

  const messages = first.host.client.takeUpload({ uploadId: "u1" })[Symbol.asyncIterator]();
  const ready = messages.next();
  await until(() => seen.length === 2 || undefined);
  await serve(
    t,
    {
      async *takeUpload({ uploadId }) {
        seen.push(uploadId);
        yield { message: { case: "ready" as const, value: {} } };
      },
    },
    { socket: first.path },
  );
  assert.equal((await ready).value?.message.case, "ready");
  assert.deepEqual(seen, ["c1", "u1", "u1"]);
});

test("a long call is repeated each time that its host process dies", async (t) => {
  let asked = 0;
  const awayMs = 200;
  const { host } = await serve(
    t,
    {
      listContainers: async () => {
        if (++asked === 3) {
          return {};
        }
        await new Promise((resolve) => setTimeout(resolve, asked === 2 ? 2 * awayMs : 0));
        throw new ConnectError("gone", Code.Unavailable);
      },
    },
    { awayMs },
  );
  await host.client.listContainers({});
  assert.equal(asked, 3);
});

test("a call stops waiting for a host process when it is cancelled, times out, or the client is closed", async (t) => {
  const { host, end } = await serve(t, {});
  end();
  const left = new AbortController();
  const calls = [
    host.client.launchContainer({}, { signal: left.signal }),
    host.client.releaseContainer({}, { timeoutMs: 50 }),
    host.client.listContainers({}),
  ];
  const settled = Promise.allSettled(calls);
  await assert.rejects(calls[1] ?? assert.fail(), { code: Code.Unavailable });
  left.abort();
  await assert.rejects(calls[0] ?? assert.fail(), { code: Code.Unavailable });
  host.close();
  await settled;
});
