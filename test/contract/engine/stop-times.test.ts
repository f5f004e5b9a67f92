import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, it, mock } from "node:test";

import { signalContainer } from "../../../src/backends/engine/containers/run/signal-container.ts";
import { stopContainer } from "../../../src/backends/engine/containers/run/stop-container.ts";
import { unlessAborted } from "../../../src/backends/concurrency/unless-aborted.ts";
import { ManualClock } from "../../../src/common/manual-clock.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { until, untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("how long a container has to end after its stop signal", () => {
  let clock: ManualClock;
  const bench = EngineBench.ofEach(() => {
    clock = new ManualClock(Date.now());
    return { clock };
  });

  const cases: readonly (readonly [string, number | undefined, number | undefined, number])[] = [
    ["is ten seconds", undefined, undefined, 10],
    ["is what its configuration says", 3, undefined, 3],
    ["is what the call says", 3, 5, 5],
  ];
  for (const [what, ofContainer, ofCall, seconds] of cases) {
    it(what, async () => {
      const ready = path.join(bench.machine.directory, "ready");
      const id = await bench.runScript(`trap "" TERM; : > ${ready}; while :; do sleep 0.05; done`, {
        config: ofContainer === undefined ? {} : { stopTimeout: ofContainer },
      });
      await until(() => existsSync(ready) || undefined);
      const agent = bench.machine.agentOf(id);
      const before = clock.sleeping;
      const stopped = bench.containers.stopContainer({
        container: id,
        ...(ofCall === undefined ? {} : { timeoutSeconds: ofCall }),
      });
      await until(() => (agent.calls.includes("signal 15") && clock.sleeping > before) || undefined);
      const asked = clock.nowMs();
      const isKilled = () => agent.calls.includes("signal 9");
      while (!isKilled() && clock.nowMs() - asked < seconds * 1000) {
        await clock.advance(100);
        await new Promise((resolve) => setTimeout(resolve, 1)); // for what the step has set off
      }
      assert.equal(clock.nowMs() - asked, seconds * 1000);
      await stopped;
      assert.ok(isKilled());
    });
  }

  it("is waited for by one only of many clients that have left", async () => {
    const id = await bench.runScript(`trap "" TERM; while :; do sleep 0.05; done`);
    const { context } = bench.engine;
    const stops = [300, 200, -1, 200, 400].map((timeoutSeconds) => {
      const client = new AbortController();
      const stop = { client, outcome: "goes on" };
      const over = (outcome: string) => () => Object.assign(stop, { outcome });
      stopContainer(context, id, { timeoutSeconds, signal: "" }, client.signal).then(
        over("done"),
        over("left"),
      );
      return stop;
    });
    const outcomes = () => stops.map(({ outcome }) => outcome);
    const agent = bench.machine.agentOf(id);
    await untilTrue(() => agent.calls.filter((call) => call === "signal 15").length === stops.length);
    for (const { client } of stops) {
      client.abort();
    }
    await untilTrue(() => outcomes().filter((outcome) => outcome === "left").length === 4);
    assert.deepEqual(outcomes(), ["left", "goes on", "left", "left", "left"]);
    await bench.containers.killContainer({ container: id });
    await untilTrue(() => outcomes()[1] === "done");
  });

  for (const [what, end] of [
    [
      "stops",
      (id: string, left: AbortSignal) =>
        stopContainer(bench.engine.context, id, { timeoutSeconds: 1, signal: "" }, left),
    ],
    ["kills", (id: string, left: AbortSignal) => signalContainer(bench.engine.context, id, "KILL", left)],
  ] as const) {
    it(`is changed by one of many ${what} whose clients have left before they began`, async () => {
      const id = await bench.runScript("exec sleep 1000");
      const { lock } = bench.engine.context.live.of(id);
      const held = Promise.withResolvers<void>();
      const holding = lock.run(() => held.promise);
      const clients = Array.from({ length: 100 }, () => new AbortController());
      let failed = 0;
      const calls = clients.map(({ signal }) => end(id, signal).catch(() => failed++));
      for (const client of clients) {
        client.abort();
      }
      await untilTrue(() => failed === clients.length - 1);
      held.resolve();
      await Promise.all([holding, ...calls]);
      assert.equal(failed, clients.length - 1);
      assert.equal(bench.machine.agentOf(id).calls.filter((call) => call.startsWith("signal")).length, 1);
    });
  }

  it("is over for all its stops at once, which record that one after the other", async () => {
    const ready = path.join(bench.machine.directory, "ready");
    const id = await bench.runScript(`trap "" TERM; : > ${ready}; while :; do sleep 0.05; done`);
    await until(() => existsSync(ready) || undefined);
    const { context } = bench.engine;
    const left = new AbortController().signal;
    const stops = Array.from({ length: 20 }, () =>
      stopContainer(context, id, { timeoutSeconds: 300, signal: "" }, left),
    );
    const { calls } = bench.machine.agentOf(id);
    await untilTrue(() => calls.filter((call) => call === "signal 15").length === stops.length);
    let underWay = 0;
    let most = 0;
    const commit = context.state.commit.bind(context.state);
    mock.method(context.state, "commit", async (...change: Parameters<typeof commit>) => {
      most = Math.max(most, ++underWay);
      await commit(...change).finally(() => underWay--);
    });
    await bench.containers.killContainer({ container: id });
    await Promise.all(stops);
    assert.ok(most <= 3, `${most} at once`);
  });

  describe("where the driver ends runs past agents that do not answer", () => {
    const graceSeconds = 20;
    let ended: string[];
    let id: string;
    let file: (name: string) => string;
    beforeEach(async () => {
      ended = [];
      bench.machine.endsPastAgents = (containerId) => ended.push(containerId);
      await bench.stopBackend();
      await bench.startBackend();
      file = (name) => path.join(bench.machine.directory, name);
      const script = `trap : TERM; : > ${file("ready")}; while [ ! -e ${file("end")} ]; do sleep 0.05; done; exit 7`;
      id = await bench.runScript(script);
      await until(() => existsSync(file("ready")) || undefined);
    });

    it("a container that is killed may take half a minute, since its end comes from afar", async () => {
      const agent = bench.machine.agentOf(id);
      agent.lateSignals.add(9);
      const before = clock.sleeping;
      const killed = bench.containers.killContainer({ container: id });
      killed.catch(() => undefined);
      await untilTrue(() => agent.calls.includes("signal 9") && clock.sleeping > before);
      await clock.advance(30_000);
      process.kill(agent.pid, "SIGKILL");
      await killed;
    });

    it("a container that is killed is ended past an agent that reports no end", async () => {
      const agent = bench.machine.agentOf(id);
      agent.lateSignals.add(9);
      const before = clock.sleeping;
      const killed = bench.containers.killContainer({ container: id });
      await untilTrue(() => agent.calls.includes("signal 9") && clock.sleeping > before);
      await clock.advance(45_000);
      await killed;
      assert.deepEqual(ended, [id]);
    });

    it("a container is ended past its agent by one of many kills whose clients have left", async () => {
      const held = Promise.withResolvers<void>();
      let ends = 0;
      bench.machine.endsPastAgents = async (_id, signal) => {
        ends++;
        await unlessAborted(signal, held.promise);
      };
      const agent = bench.machine.agentOf(id);
      agent.lateSignals.add(9);
      const before = clock.sleeping;
      const clients = Array.from({ length: 10 }, () => new AbortController());
      let failed = 0;
      const kills = clients.map(({ signal }) =>
        signalContainer(bench.engine.context, id, "KILL", signal).catch(() => failed++),
      );
      await untilTrue(() => clock.sleeping >= before + clients.length);
      await clock.advance(45_000);
      await untilTrue(() => ends === clients.length);
      for (const client of clients) {
        client.abort();
      }
      await untilTrue(() => failed === clients.length - 1);
      held.resolve();
      await Promise.all(kills);
      assert.equal(failed, clients.length - 1);
    });

    /** Begins to stop it. @returns what lets a second go by whenever an attempt has failed, until something holds */
    const stop = (timeoutSeconds = graceSeconds, leaving?: AbortSignal) => {
      const before = clock.sleeping;
      const call = leaving === undefined ? {} : { signal: leaving };
      const stopped = bench.containers.stopContainer({ container: id, timeoutSeconds }, call);
      const untilHolds = async (holds: () => boolean): Promise<void> => {
        while (!holds()) {
          await until(() => holds() || clock.sleeping > before || undefined);
          if (!holds()) {
            await clock.advance(1000);
          }
        }
      };
      return { stopped, untilHolds, isWaiting: () => clock.sleeping > before };
    };

    it("is left to a container whose agent is reached after all, and tells it once", async () => {
      const agent = bench.machine.agentOf(id);
      agent.failures.add("signal");
      const { stopped, untilHolds } = stop();
      await untilHolds(() => agent.signalAttempts > 3);
      agent.failures.delete("signal");
      agent.failures.add("signalAnswer");
      await untilHolds(() => !agent.failures.has("signalAnswer"));
      const attempts = agent.signalAttempts;
      await untilHolds(() => agent.signalAttempts > attempts);
      writeFileSync(file("end"), "");
      await stopped;
      assert.deepEqual([ended, agent.calls], [[], ["signal 15"]]);
      assert.equal(bench.state.containers.get(id)?.state?.exitCode, 7);
    });

    it("is over before a run is ended past its agent", async () => {
      bench.machine.agentOf(id).failures.add("signal");
      const asked = clock.nowMs();
      const { stopped, untilHolds } = stop();
      await untilHolds(() => ended.length > 0);
      assert.equal(clock.nowMs() - asked, graceSeconds * 1000);
      await stopped;
      assert.deepEqual(ended, [id]);
    });

    it("is over in its own time when the client leaves", async () => {
      bench.machine.agentOf(id).failures.add("signal");
      const leaving = new AbortController();
      const { stopped, untilHolds, isWaiting } = stop(graceSeconds, leaving.signal);
      await untilTrue(isWaiting);
      leaving.abort();
      await assert.rejects(stopped);
      await untilHolds(() => ended.length > 0);
      assert.deepEqual(ended, [id]);
    });

    it("is over when the client leaves, where it was to last for ever", async () => {
      bench.machine.agentOf(id).failures.add("signal");
      const leaving = new AbortController();
      const { stopped, isWaiting } = stop(-1, leaving.signal);
      await untilTrue(isWaiting);
      leaving.abort();
      await assert.rejects(stopped);
      await untilTrue(() => !isWaiting());
      assert.equal(bench.state.containers.get(id)?.state?.status, ContainerStatus.RUNNING);
      assert.deepEqual(ended, []);
    });

    it("keeps nobody from killing the container, whose agent has not answered yet", async () => {
      const agent = bench.machine.agentOf(id);
      agent.unanswered.add(15);
      const { stopped } = stop(-1);
      await untilTrue(() => agent.signalAttempts > 0);
      await bench.containers.killContainer({ container: id });
      assert.equal(agent.calls[0], "signal 9");
      await stopped;
    });
  });
});
