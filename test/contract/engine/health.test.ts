import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import { HealthResultSchema, OutOfMemorySchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { HealthStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a container with a health check", () => {
  const bench = EngineBench.ofEach();

  const stateOf = async (container: string) =>
    (await bench.containers.inspectContainer({ container })).container?.state;
  const healthOf = async (container: string) => (await stateOf(container))?.health;

  /** Lets the agent tell a result, and waits until the engine has taken it in. */
  const tell = async (container: string, exitCode: number): Promise<void> => {
    const before = (await healthOf(container))?.log.length ?? 0;
    bench.machine.agentOf(container).tell({
      case: "health",
      value: create(HealthResultSchema, {
        start: timestampNow(),
        end: timestampNow(),
        exitCode,
        output: new TextEncoder().encode(`exit ${exitCode}`),
      }),
    });
    while (((await healthOf(container))?.log.length ?? 0) === before) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  };

  it("is starting, then what its results make of it, with an event at each change", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      config: { healthcheck: { test: ["CMD-SHELL", "check"], retries: 2 } },
    });
    const [start] = bench.machine.agentOf(id).starts;
    assert.deepEqual(start?.healthCheck?.args, ["/bin/sh", "-c", "check"]);
    assert.equal((await healthOf(id))?.status, HealthStatus.STARTING);
    await tell(id, 0);
    assert.equal((await healthOf(id))?.status, HealthStatus.HEALTHY);
    await tell(id, 1);
    assert.equal((await healthOf(id))?.failingStreak, 1);
    await tell(id, 1);
    const health = await healthOf(id);
    assert.equal(health?.status, HealthStatus.UNHEALTHY);
    assert.equal(health?.log.at(-1)?.output, "exit 1");
    assert.deepEqual(await bench.eventNames({ event: ["health_status"] }), [
      "container health_status: healthy",
      "container health_status: unhealthy",
    ]);
    const { containers } = await bench.containers.listContainers({
      filters: { health: { values: ["unhealthy"] } },
    });
    assert.deepEqual(
      containers.map((container) => container.id),
      [id],
    );
  });

  it("has the state write no more than a mebibyte a second, however long its labels are", async () => {
    await bench.close();
    const clock = new ManualClock(Date.now());
    await bench.begin({ clock });
    const id = await bench.runScript("exec sleep 1000", {
      config: { healthcheck: { test: ["CMD-SHELL", "check"] }, labels: { long: "x".repeat(2 ** 21) } },
    });
    const agent = bench.machine.agentOf(id);
    await tell(id, 0);
    for (let n = 0; n < 5; n++) {
      agent.tell({ case: "health", value: create(HealthResultSchema, { end: timestampNow(), exitCode: 1 }) });
    }
    agent.tell({ case: "oom", value: create(OutOfMemorySchema) }); // Told after them, so that they have been read.
    while ((await stateOf(id))?.oomKilled !== true) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await healthOf(id))?.log.length, 1);
    await clock.advance(9_000);
    await tell(id, 1);
    assert.equal((await healthOf(id))?.log.length, 2);
  });

  it("counts no result that comes while it is paused", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      config: { healthcheck: { test: ["CMD-SHELL", "check"] } },
    });
    await tell(id, 0);
    await bench.containers.pauseContainer({ container: id });
    const agent = bench.machine.agentOf(id);
    agent.tell({ case: "health", value: create(HealthResultSchema, { end: timestampNow(), exitCode: 0 }) });
    agent.tell({ case: "oom", value: create(OutOfMemorySchema) }); // Told after it, so that it has been read.
    while ((await stateOf(id))?.oomKilled !== true) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await healthOf(id))?.status, HealthStatus.UNHEALTHY);
    assert.equal((await healthOf(id))?.log.length, 1);
  });

  it("has none when the user switches the image's off", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      config: { image: "with-check", healthcheck: { test: ["NONE"] } },
    });
    assert.equal(await healthOf(id), undefined);
    assert.equal(bench.machine.agentOf(id).starts[0]?.healthCheck, undefined);
  });
});
