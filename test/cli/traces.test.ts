/** Traces of a daemon of this machine, as a collector takes them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Collector, type ToldSpan } from "../support/collector.ts";
import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { until } from "../support/until.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const clientSpan = "b7ad6b7169203331";
const headers = { traceparent: `00-${traceId}-${clientSpan}-01` };

describe("traces", () => {
  const { collector, daemon } = duringTests(async (resources) => {
    const collector = resources.use(await Collector.start());
    const daemon = resources.use(await Daemon.startWithBusybox({ env: collector.environment }));
    return { collector, daemon };
  });

  /** The span of a service: a call between two has one of each, with the same name. */
  const named = (name: string, service: "frontend" | "backend", of = traceId): Promise<ToldSpan> =>
    until(() =>
      collector.spans.find(
        (span) => span.name === name && span.traceId === of && span.service === `sockerless-${service}`,
      ),
    );

  it("lead from a client's span through frontend and backend to the agent", async () => {
    await daemon.ok("create", "--name=traced", "busybox", "true");
    const answered = await callApi(daemon.socket, "POST", "/containers/traced/start", { headers });
    assert.equal(answered.status, 204);
    const request = await named("POST /containers/{name}/start", "frontend");
    const call = await named("sockerless.backend.v1.ContainerService/StartContainer", "backend");
    const agent = await named("sockerless.agent.v1.AgentService/Start", "backend");
    assert.deepEqual([request.parentSpanId, request.isFailed, call.isFailed], [clientSpan, false, false]);
    const id = answered.headers["sockerless-request-id"];
    assert.ok(id !== undefined);
    assert.deepEqual(
      [request.attributes["sockerless.request.id"], call.attributes["sockerless.request.id"]],
      [id, id],
    );
    const inBackend = collector.spans.find(({ spanId }) => spanId === call.parentSpanId);
    assert.equal(inBackend?.spanId, request.spanId);
    assert.equal(agent.parentSpanId, call.spanId);
  });

  it("mark what failed, and not what is not there", async () => {
    const id = "1af7651916cd43dd8448eb211c80319c";
    const parent = { traceparent: `00-${id}-${clientSpan}-01` };
    const answered = await callApi(daemon.socket, "GET", "/containers/nobody/json", { headers: parent });
    assert.equal(answered.status, 404);
    const request = await named("GET /containers/{name}/json", "frontend", id);
    assert.deepEqual([request.attributes["http.response.status_code"], request.isFailed], [404, false]);
    const call = await named("sockerless.backend.v1.ContainerService/InspectContainer", "backend", id);
    assert.deepEqual([call.attributes["sockerless.outcome"], call.isFailed], ["not-found", false]);
  });

  it("begin here where the client has none", async () => {
    await daemon.ok("version");
    const request = await until(() => collector.spans.find(({ name }) => name === "GET /version"));
    assert.equal(request.parentSpanId, undefined);
  });
});
