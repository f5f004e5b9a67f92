import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerHttp2Session } from "node:http2";
import { join } from "node:path";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { scratchDirectory } from "../../../test/support/scratch.ts";
import { until } from "../../../test/support/until.ts";
import { AgentService } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { AgentEndpointSchema } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import { AgentTargets } from "./agent-targets.ts";

test("calls to an agent share a connection, which is closed with the last of them; each ends by itself", async (t) => {
  const path = join(scratchDirectory(), "agent.sock");
  let underWay = 0;
  const routes = connectNodeAdapter({
    routes: (router) =>
      router.service(AgentService, {
        async *stats(_, { signal }) {
          underWay += 1;
          yield {};
          await once(signal, "abort");
          underWay -= 1;
        },
      }),
  });
  const sessions = new Set<ServerHttp2Session>();
  let connections = 0;
  const server = createServer(routes).on("session", (session) => {
    connections += 1;
    sessions.add(session.once("close", () => sessions.delete(session)));
  });
  await once(server.listen(path), "listening");
  t.after(() => {
    server.close();
    for (const session of sessions) {
      session.destroy();
    }
  });
  const targets = new AgentTargets({ address: "unix:///none" });
  const endpoint = create(AgentEndpointSchema, { address: { case: "unixPath", value: path } });
  for (const round of [1, 2]) {
    const clients = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const { client, close } = targets.clientOf(endpoint);
        const readings = client.stats({ stream: true })[Symbol.asyncIterator]();
        assert.notEqual((await readings.next()).done, true);
        return { readings, close };
      }),
    );
    assert.equal(connections, round);
    await until(() => (sessions.size === 1 && underWay === 50) || undefined);
    const [first, ...others] = clients;
    first?.close();
    first?.close();
    await until(() => underWay === 49 || undefined);
    assert.equal(sessions.size, 1);
    for (const { close } of others) {
      close();
    }
  }
  await until(() => sessions.size === 0 || undefined);
});
