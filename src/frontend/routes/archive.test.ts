import assert from "node:assert/strict";
import { connect } from "node:net";
import { test, type TestContext } from "node:test";

import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";

import type { AgentService, ArchivePutOpen } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { AgentAccess } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { Clock } from "../../common/clock.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { ContainerService } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { type ApiUnderTest, serveApi } from "../../../test/support/docker-api.ts";
import { serveAgent } from "../../../test/support/scripted-agent.ts";
import { until } from "../../../test/support/until.ts";

const stat = {
  name: "motd",
  size: 12n,
  mode: 0o644,
  mtime: { seconds: 1_700_000_000n, nanos: 120_000_000 },
  linkTarget: "",
};
const header = "x-docker-container-path-stat";

async function serveArchive(
  t: TestContext,
  service: Partial<ServiceImpl<typeof AgentService>>,
): Promise<ApiUnderTest> {
  const agent = await serveAgent(t, service);
  return await serveApi(t, (router) =>
    router.service(ContainerService, {
      openArchive: ({ write }) => ({ endpoint: agent.endpoint, user: write ? "app" : "" }),
    }),
  );
}

test("metadata comes in the header as moby writes it", async (t) => {
  const api = await serveArchive(t, { archiveStat: () => ({ stat }) });
  const response = await api.call("HEAD", "/containers/web/archive?path=/etc/motd");
  assert.equal(response.status, 200);
  assert.equal(
    Buffer.from(String(response.headers[header]), "base64").toString(),
    '{"name":"motd","size":12,"mode":420,"mtime":"2023-11-14T22:13:20.12Z","linkTarget":""}',
  );
});

test("a path is answered with its metadata and every byte of its archive", async (t) => {
  const content = Buffer.alloc(3_000_000, "tar");
  const api = await serveArchive(t, {
    async *archiveGet() {
      yield { message: { case: "stat", value: stat } };
      for (let offset = 0; offset < content.length; offset += 65_536) {
        const data = content.subarray(offset, offset + 65_536);
        yield { message: { case: "chunk", value: { offset: BigInt(offset), data } } };
      }
      yield { message: { case: "end", value: { totalBytes: BigInt(content.length) } } };
    },
  });
  const response = await api.call("GET", "/containers/web/archive?path=/etc/motd");
  assert.equal(response.headers["content-type"], "application/x-tar");
  assert.match(Buffer.from(String(response.headers[header]), "base64").toString(), /"name":"motd"/);
  assert.ok(response.text === content.toString());
});

test("what does not exist is told in Docker's words, with the container as the client named it", async (t) => {
  const missing = (): never => {
    throw new ConnectError("no such path", Code.NotFound);
  };
  const api = await serveArchive(t, {
    archiveStat: missing,
    // biome-ignore lint/correctness/useYield: it refuses instead
    archiveGet: async function* () {
      missing();
    },
    archivePut: missing,
  });
  const message = "Could not find the file /nope in container web";
  assert.equal((await api.call("HEAD", "/containers/web/archive?path=/nope")).status, 404);
  for (const method of ["GET", "PUT"]) {
    const response = await api.call(method, "/containers/web/archive?path=/nope", {
      ...(method === "PUT" ? { body: "tar" } : {}),
    });
    assert.deepEqual([response.status, response.text], [404, `${JSON.stringify({ message })}\n`]);
  }
});

test("an archive is unpacked as asked, and answered once the agent has it all", async (t) => {
  let open: ArchivePutOpen | undefined;
  const chunks: Buffer[] = [];
  const api = await serveArchive(t, {
    archivePut: async (requests) => {
      let total = 0n;
      for await (const { message } of requests) {
        if (message.case === "open") {
          open = message.value;
        } else if (message.case === "chunk") {
          chunks.push(Buffer.from(message.value.data));
        } else if (message.case === "end") {
          total = message.value.totalBytes;
        }
      }
      return { totalBytes: total };
    },
  });
  const body = Buffer.alloc(2_000_000, "a tar");
  const response = await api.call(
    "PUT",
    "/containers/web/archive?path=/srv&noOverwriteDirNonDir=true&copyUIDGID=1",
    { body, headers: { "Content-Type": "application/x-tar" } },
  );
  assert.deepEqual([response.status, response.text], [200, ""]);
  assert.ok(Buffer.concat(chunks).equals(body));
  assert.deepEqual(
    [open?.path, open?.noOverwriteDirNonDir, open?.copyUidGid, open?.user],
    ["/srv", true, true, "app"],
  );
});

test("what the agent refuses keeps its words and its kind", async (t) => {
  const api = await serveArchive(t, {
    archivePut: () => {
      throw new ConnectError("extraction point is not a directory", Code.InvalidArgument);
    },
  });
  const response = await api.call("PUT", "/containers/web/archive?path=/etc/motd", {
    body: Buffer.alloc(5_000_000),
  });
  assert.deepEqual(
    [response.status, response.json()],
    [400, { message: "extraction point is not a directory" }],
  );
});

test("an upload that is cut never reaches the agent as a whole one", async (t) => {
  const outcome = Promise.withResolvers<string>();
  let begun = false;
  const api = await serveArchive(t, {
    archivePut: async (requests) => {
      try {
        for await (const { message } of requests) {
          begun ||= message.case === "chunk";
          if (message.case === "end") {
            outcome.resolve("whole");
          }
        }
        outcome.resolve("not whole");
      } catch {
        outcome.resolve("not whole");
      }
      return {};
    },
  });
  const client = connect(api.socket);
  t.after(() => client.destroy());
  client.write(
    "PUT /containers/web/archive?path=/srv HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this",
  );
  await until(() => begun || undefined);
  client.destroy();
  assert.equal(await outcome.promise, "not whole");
});

test("an archive without a path is refused", async (t) => {
  const api = await serveArchive(t, {});
  const response = await api.call("GET", "/containers/web/archive");
  assert.deepEqual(
    [response.status, response.json()],
    [400, { message: "bad parameter: pathcannot be empty" }],
  );
});

/** The API over an agent of run 1 that is leaving, and who serves the container when its end is on record. */
async function serveAroundTheEnd(
  t: TestContext,
  leaving: Partial<ServiceImpl<typeof AgentService>>,
  next: Partial<ServiceImpl<typeof AgentService>>,
  clock?: Clock,
): Promise<ApiUnderTest> {
  const [own, stored] = [await serveAgent(t, leaving), await serveAgent(t, next)];
  const place = ({ access }: { readonly access?: AgentAccess | undefined }) => ({
    endpoint: access?.failedGeneration === 1n ? stored.endpoint : { ...own.endpoint, generation: 1n },
  });
  const service = { openArchive: place, openChanges: place, recordStreamUse: () => ({}) };
  return await serveApi(
    t,
    (router) => router.service(ContainerService, service),
    undefined,
    undefined,
    clock,
  );
}

const isLeaving = (): never => {
  throw new ConnectError("the container's agent is leaving: ask the backend again", Code.Unavailable);
};

test("files are fetched from who serves them when their container's agent is leaving", async (t) => {
  const api = await serveAroundTheEnd(
    t,
    {
      archiveStat: isLeaving,
      // biome-ignore lint/correctness/useYield: it refuses instead
      archiveGet: async function* () {
        isLeaving();
      },
      // biome-ignore lint/correctness/useYield: it refuses instead
      changes: async function* () {
        isLeaving();
      },
    },
    {
      archiveStat: () => ({ stat }),
      async *archiveGet() {
        yield { message: { case: "stat", value: stat } };
        yield { message: { case: "chunk", value: { data: Buffer.from("tar") } } };
        yield { message: { case: "end", value: { totalBytes: 3n } } };
      },
      async *changes() {
        yield { message: { case: "change", value: { path: "/a", kind: 2 } } };
        yield { message: { case: "end", value: { count: 1n } } };
      },
    },
  );
  assert.equal((await api.call("HEAD", "/containers/web/archive?path=/etc/motd")).status, 200);
  const get = await api.call("GET", "/containers/web/archive?path=/etc/motd");
  assert.deepEqual([get.status, get.text], [200, "tar"]);
  const changes = await api.call("GET", "/containers/web/changes");
  assert.deepEqual([changes.status, changes.text.trim()], [200, '[{"Path":"/a","Kind":1}]']);
});

test("an upload that a leaving agent refuses goes whole to who takes it", async (t) => {
  const chunks: Buffer[] = [];
  // The one that is leaving says so however late, on a busy machine; the next one's header comes with its answer alone.
  const clock = new ManualClock();
  const api = await serveAroundTheEnd(
    t,
    { archivePut: isLeaving },
    {
      archivePut: async (requests) => {
        await clock.advance(1000);
        let totalBytes = 0n;
        for await (const { message } of requests) {
          if (message.case === "chunk") {
            chunks.push(Buffer.from(message.value.data));
          } else if (message.case === "end") {
            ({ totalBytes } = message.value);
          }
        }
        return { totalBytes };
      },
    },
    clock,
  );
  const body = Buffer.alloc(6_000_000, "a tar");
  const response = await api.call("PUT", "/containers/web/archive?path=/srv", { body });
  assert.deepEqual([response.status, response.text], [200, ""]);
  assert.ok(Buffer.concat(chunks).equals(body));
});

test("an agent that cannot be reached, and that the backend names again, has the last word", async (t) => {
  let asked = 0;
  const agent = await serveAgent(t, {
    archiveStat: () => {
      asked += 1;
      return isLeaving();
    },
  });
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      openArchive: () => ({ endpoint: { ...agent.endpoint, generation: 1n } }),
    }),
  );
  assert.equal((await api.call("HEAD", "/containers/web/archive?path=/etc/motd")).status, 503);
  assert.equal(asked, 2);
});
