import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { ManualClock } from "../../../src/common/manual-clock.ts";
import { AgentReach } from "../../../src/gen/sockerless/backend/v1/endpoint_pb.ts";
import { until } from "../../support/until.ts";
import { EngineBench, localAccess } from "../engine-bench.ts";

describe("an agent that is leaving, whose container counts as running", () => {
  let clock: ManualClock;
  const bench = EngineBench.ofEach(() => {
    clock = new ManualClock(Date.now());
    return { clock };
  });

  const opened = async (container: string, failedGeneration?: bigint, reach = AgentReach.LOCAL) => {
    const access = { reach, ...(failedGeneration === undefined ? {} : { failedGeneration }) };
    const { endpoint } = await bench.containers.openArchive({ container, access });
    assert.ok(endpoint);
    return endpoint;
  };

  for (const reach of [AgentReach.LOCAL, AgentReach.RELAY]) {
    it(`is not named to a frontend again that it has failed: ${AgentReach[reach]}`, async () => {
      const container = await bench.runScript("exec sleep 1000");
      const own = await opened(container, undefined, reach);
      assert.equal(own.generation, 1n);
      const next = opened(container, own.generation, reach);
      await bench.containers.killContainer({ container });
      const { generation, address } = await next;
      assert.equal(generation, 0n);
      assert.deepEqual(address, (await opened(container, undefined, reach)).address);
    });
  }

  it("is waited for no longer where the container runs anew", async () => {
    const container = await bench.runScript("exec sleep 1000");
    await bench.containers.restartContainer({ container, timeoutSeconds: 0 });
    assert.equal((await opened(container, 1n)).generation, 2n);
  });

  it("is named again where the end of its run is not on record in time", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const sleeping = clock.sleeping;
    const next = opened(container, 1n);
    await until(() => clock.sleeping > sleeping || undefined);
    await clock.advance(10_000);
    assert.equal((await next).generation, 1n);
  });

  it("is waited for no longer than the client waits", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const sleeping = clock.sleeping;
    const left = new AbortController();
    const access = { ...localAccess, failedGeneration: 1n };
    const next = bench.containers.openArchive({ container, access }, { signal: left.signal });
    await until(() => clock.sleeping > sleeping || undefined);
    left.abort();
    await assert.rejects(next);
    await until(() => clock.sleeping === sleeping || undefined);
  });

  describe("of an exec that was handed out", () => {
    const handedOut = async () => {
      const container = await bench.runScript("exec sleep 1000");
      const { id: execId } = await bench.execs.createExec({ container, config: { cmd: ["true"] } });
      const { endpoint } = await bench.execs.startExec({ execId, access: localAccess });
      assert.equal(endpoint?.generation, 1n);
      const sleeping = clock.sleeping;
      const next = bench.execs.startExec({ execId, access: { ...localAccess, failedGeneration: 1n } });
      next.catch(() => undefined);
      await until(() => clock.sleeping > sleeping || undefined);
      return { container, execId, next };
    };

    it("has its start answered as dockerd does where the end of the run comes between: it does not run", async () => {
      const { container, execId, next } = await handedOut();
      await bench.containers.killContainer({ container });
      await assert.rejects(
        next,
        (error) =>
          isErrorKind(error, "conflict") && messageOf(error) === `container ${container} is not running`,
      );
      await assert.rejects(bench.execs.startExec({ execId, access: localAccess }), (error) =>
        isErrorKind(error, "not-found"),
      );
    });

    it("leaves it handed out where the run goes on", async () => {
      const { execId, next } = await handedOut();
      await clock.advance(10_000);
      assert.equal((await next).refusal, `exec command ${execId} is already running`);
    });
  });

  const verbs = {
    resize: (container: string) => bench.containers.resizeContainer({ container, height: 40, width: 120 }),
    pause: (container: string) => bench.containers.pauseContainer({ container }),
  };
  for (const verb of ["resize", "pause"] as const) {
    it(`has ${verb} answered as of the container that has ended`, async () => {
      const container = await bench.runScript("exec sleep 1000");
      const agent = bench.machine.agentOf(container);
      agent.failures.add(verb);
      const asked = assert.rejects(
        verbs[verb](container),
        (error) => isErrorKind(error, "conflict") && /is not running$/.test(messageOf(error)),
      );
      await until(() => agent.calls.includes(`${verb} fails`) || undefined);
      await bench.containers.killContainer({ container });
      await asked;
    });
  }
});
