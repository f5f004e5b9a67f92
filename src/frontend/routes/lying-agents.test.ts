/** An agent is not trusted: texts of its answers that are longer than a file's or an interface's are refused. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import type { ServiceImpl } from "@connectrpc/connect";

import { type ApiUnderTest, serveApi } from "../../../test/support/docker-api.ts";
import { serveAgent } from "../../../test/support/scripted-agent.ts";
import type { AgentService } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerService } from "../../gen/sockerless/backend/v1/container_pb.ts";

async function serveLies(
  t: TestContext,
  service: Partial<ServiceImpl<typeof AgentService>>,
): Promise<ApiUnderTest> {
  const { endpoint } = await serveAgent(t, service);
  return await serveApi(t, (router) =>
    router.service(ContainerService, {
      openArchive: () => ({ endpoint }),
      openChanges: () => ({ endpoint }),
      openStats: () => ({ id: "1", name: "/web", endpoint }),
    }),
  );
}

const long = "x".repeat(70_000);

for (const lie of ["name", "linkTarget"]) {
  test(`metadata of a path with a ${lie} of any length is refused`, async (t) => {
    const stat = { name: "motd", size: 12n, mode: 0o644, [lie]: "x".repeat(9_000) };
    const api = await serveLies(t, {
      archiveStat: () => ({ stat }),
      async *archiveGet() {
        yield { message: { case: "stat", value: stat } };
      },
    });
    for (const method of ["HEAD", "GET"]) {
      const { status, headers } = await api.call(method, "/containers/web/archive?path=/motd");
      assert.equal(status, 500, method);
      assert.equal(headers["x-docker-container-path-stat"], undefined);
    }
  });
}

test("a changed path of any length is refused", async (t) => {
  const api = await serveLies(t, {
    async *changes() {
      yield { message: { case: "change", value: { path: `/${long}`, kind: 1 } } };
    },
  });
  const { status, text } = await api.call("GET", "/containers/web/changes");
  assert.ok(status >= 400, String(status));
  assert.ok(text.length < 1_000);
});

test("a reading of usage with networks of any length is refused", async (t) => {
  const api = await serveLies(t, {
    async *stats() {
      yield { networks: { [long]: { rxBytes: 1n } } };
    },
  });
  const { text } = await api.call("GET", "/containers/web/stats?stream=0");
  assert.ok(text.length < 5_000, text.slice(0, 100));
});
