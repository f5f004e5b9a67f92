import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { isErrorKind } from "../../../src/common/errors.ts";
import { ExitStatusSchema, OutOfMemorySchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerStatus, WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { Phase, VolumeRecordSchema } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { removed } from "../../../src/backends/engine/containers/decisions/life/transitions.ts";
import { until, untilTrue } from "../../support/until.ts";
import { EngineBench, localAccess } from "../engine-bench.ts";
import type { MemoryMachine } from "../memory-machine.ts";
import { ProcessAgent } from "../process-agent.ts";
import { isSoak } from "../../support/soak.ts";

type Workload = MemoryMachine["workloads"] extends Map<string, infer Each> ? Each : never;

describe("a backend that is started again", () => {
  const bench = EngineBench.ofEach();

  const inspect = async (container: string) =>
    (await bench.containers.inspectContainer({ container })).container;

  it("adopts what runs: wait, exec and stop work as before", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const before = await inspect(id);
    await bench.stopBackend();
    await bench.startBackend();
    const after = await inspect(id);
    assert.equal(after?.state?.status, ContainerStatus.RUNNING);
    assert.equal(after?.state?.pid, before?.state?.pid);
    assert.deepEqual(after?.networkSettings?.networks, before?.networkSettings?.networks);
    const { id: execId } = await bench.execs.createExec({ container: id, config: { cmd: ["true"] } });
    const { endpoint } = await bench.execs.startExec({ execId, access: localAccess });
    await bench.session(endpoint, { openExec: { execId, process: { args: ["true"] } } });
    assert.equal((await bench.execs.awaitExec({ execId })).exitCode, 0);
    const exit = bench.wait(id);
    await bench.containers.stopContainer({ container: id });
    assert.equal(await exit, 143);
  });

  /** Has the machine tell of a later start of a container that runs than the state knows. @returns its agent until then */
  const startedSince = (id: string, since: Pick<Workload, "agent" | "exit">): ProcessAgent => {
    const before = bench.machine.agentOf(id);
    const workload = bench.machine.workloads.get(id);
    assert.ok(workload !== undefined);
    const record = { ...workload.spec.record, generation: 2n };
    Object.assign(workload, { ...since, spec: { ...workload.spec, record } });
    return before;
  };

  it("has the end of a later start than its state knew", async () => {
    const id = await bench.runScript("exec sleep 1000");
    await bench.stopBackend();
    const exit = { code: 7, oomKilled: false, finishedAt: new Date() };
    await startedSince(id, { agent: undefined, exit }).crash();
    await bench.startBackend();
    assert.equal((await inspect(id))?.state?.exitCode, 7);
  });

  it("restarts a later start by its policy that its state has a user's signal before", async () => {
    const id = await bench.runScript("trap : USR1; while :; do sleep 0.1; done");
    await bench.containers.updateContainer({ container: id, restartPolicy: { name: "unless-stopped" } });
    await bench.containers.killContainer({ container: id, signal: "USR1" });
    await bench.stopBackend();
    const exit = { code: 7, oomKilled: false, finishedAt: new Date() };
    await startedSince(id, { agent: undefined, exit }).crash();
    await bench.startBackend();
    await untilTrue(async () => (await inspect(id))?.restartCount === 1);
  });

  it("does not restart a later start than its state knew, which has a restart under way", async () => {
    const id = await bench.runScript("exec sleep 1000", { hostConfig: { autoRemove: true } });
    const record = bench.state.containers.get(id);
    assert.ok(record !== undefined);
    await bench.state.commit((change) => change.containers.put({ ...record, restartToken: "began" }));
    await bench.stopBackend();
    const agent = bench.machine.agentOf(id);
    startedSince(id, { agent, exit: undefined });
    await bench.startBackend();
    const { generation, restartToken } = bench.state.containers.get(id) ?? {};
    assert.deepEqual([generation, restartToken, agent.exit], [2n, "", undefined]);
  });

  it("goes on with a later start that is found in the place of one whose agent is lost", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const { options } = bench.machine.agentOf(id);
    const agent = await ProcessAgent.listen({
      ...options,
      socket: `${options.socket}.later`,
      generation: 2n,
    });
    await startedSince(id, { agent, exit: undefined }).crash();
    await untilTrue(() => bench.engine.context.live.of(id).link?.generation === 2n);
    assert.equal(bench.state.containers.get(id)?.generation, 2n);
    assert.equal((await inspect(id))?.state?.status, ContainerStatus.RUNNING);
    assert.deepEqual(bench.engine.context.live.of(id).link?.address, {
      kind: "unix",
      path: agent.options.socket,
    });
  });

  it("does not make a start again whose answer an earlier process did not give", async () => {
    const id = await bench.createScript("exit 3");
    await bench.containers.startContainer({ container: id, clientToken: "first" });
    assert.equal(await bench.wait(id), 3);
    const before = await inspect(id);
    await bench.stopBackend();
    await bench.startBackend();
    await bench.containers.startContainer({ container: id, clientToken: "first" });
    assert.deepEqual((await inspect(id))?.state, before?.state);
    await bench.containers.startContainer({ container: id, clientToken: "second" });
    assert.notDeepEqual((await inspect(id))?.state?.startedAt, before?.state?.startedAt);
    assert.equal(await bench.wait(id), 3);
  });

  it("makes a start again that has failed", async () => {
    const id = await bench.createScript("exit 3", { config: { cmd: { values: ["/not/there"] } } });
    const start = () => bench.containers.startContainer({ container: id, clientToken: "first" });
    await assert.rejects(start(), /not\/there/);
    await bench.stopBackend();
    await bench.startBackend();
    await assert.rejects(start(), /not\/there/);
  });

  it("buries what ended meanwhile, with its exit code and the time of its end", async () => {
    const id = await bench.runScript("sleep 0.1; exit 9");
    const agent = bench.machine.agentOf(id);
    await bench.stopBackend();
    await until(() => agent.exit);
    const endedMs = Date.now();
    await until(() => Date.now() > endedMs + 20 || undefined);
    await bench.startBackend();
    assert.equal(await bench.wait(id), 9);
    const [die] = await bench.pastEvents({ event: ["die"] });
    assert.equal(die?.attributes["exitCode"], "9");
    assert.ok(Number((die?.timeUnixNs ?? 0n) / 1_000_000n) <= endedMs + 1);
  });

  it("records 255, never 0, for a container that is gone without a trace", async () => {
    const id = await bench.runScript("exec sleep 1000");
    await bench.stopBackend();
    await bench.machine.agentOf(id).stop();
    bench.machine.workloads.delete(id);
    await bench.startBackend();
    const detail = await inspect(id);
    assert.deepEqual([detail?.state?.status, detail?.state?.exitCode], [ContainerStatus.EXITED, 255]);
    assert.match(detail?.state?.error ?? "", /agent was lost/);
  });

  it("does the removal that a container with --rm had asked for", async () => {
    const id = await bench.runScript("exec sleep 1000", { hostConfig: { autoRemove: true } });
    await bench.stopBackend();
    await bench.machine.driver().workloads.release(id);
    await bench.startBackend();
    await bench.engine.context.background.settle().catch(() => undefined);
    await assert.rejects(inspect(id), (error) => isErrorKind(error, "not-found"));
    assert.equal(bench.machine.workloads.size, 0);
  });

  it("takes back a creation and finishes a removal that were under way", async () => {
    const creating = await bench.createScript("true", { name: "creating" });
    const removing = await bench.createScript("true", { name: "removing" });
    const { state } = bench;
    const [half, gone] = [state.containers.get(creating), state.containers.get(removing)];
    assert.ok(half !== undefined && gone !== undefined);
    await state.commit((change) => {
      change.containers.put({ ...half, phase: Phase.CREATING });
      change.containers.put(removed(gone));
    });
    await bench.stopBackend();
    await bench.startBackend();
    await bench.engine.context.background.settle();
    assert.equal(bench.state.containers.size, 0);
    assert.equal(bench.machine.workloads.size, 0);
    await bench.createScript("true", { name: "creating" });
  });

  it("finishes the removal of a volume, by force only where its driver finds it in use", async () => {
    const remaining = async (): Promise<string[]> => {
      await bench.volumes.createVolume({ name: "data" });
      const record = bench.state.volumes.get("data") ?? assert.fail("no volume");
      await bench.state.commit((change) => change.volumes.put({ ...record, phase: Phase.REMOVING }));
      await bench.stopBackend();
      await bench.startBackend();
      await bench.engine.context.background.settle();
      assert.equal(bench.state.volumes.size, 0);
      return [...bench.machine.volumes];
    };
    assert.deepEqual(await remaining(), []);
    assert.deepEqual(bench.machine.forcedVolumes, []);
    bench.machine.refused.add("remove volume");
    assert.deepEqual(await remaining(), []);
    assert.deepEqual(bench.machine.forcedVolumes, ["data"]);
  });

  it("takes back anonymous volumes whose creation was cut off, of which nobody was told", async () => {
    const container = bench.state.containers.get(await bench.createScript("true"));
    assert.ok(container !== undefined);
    const half = { driver: "local", anonymous: true, phase: Phase.CREATING };
    const [claimed, unclaimed] = ["ab", "cd"].map((digits) =>
      create(VolumeRecordSchema, { ...half, name: digits.repeat(32) }),
    );
    assert.ok(claimed !== undefined && unclaimed !== undefined);
    await bench.state.commit((change) => {
      change.volumes.put(claimed);
      change.volumes.put(unclaimed);
      change.containers.put({ ...container, phase: Phase.CREATING, anonymousVolumes: [claimed.name] });
    });
    await bench.stopBackend();
    await bench.startBackend();
    await bench.engine.context.background.settle();
    assert.equal(bench.state.volumes.size, 0);
    assert.deepEqual(await bench.pastEvents({ type: ["volume"] }), []);
  });

  it("keeps an anonymous volume that a container mounts, though the end of its creation is lost", async () => {
    await bench.createScript("true", { config: { volumes: ["/data"] } });
    const [volume] = bench.state.volumes.values();
    assert.ok(volume?.anonymous);
    await bench.state.commit((change) => change.volumes.put({ ...volume, phase: Phase.CREATING }));
    await assert.rejects(bench.volumes.removeVolume({ name: volume.name }), /no such volume/);
    await bench.stopBackend();
    await bench.startBackend();
    await bench.engine.context.background.settle();
    assert.equal(bench.state.volumes.get(volume.name)?.phase, Phase.UNSPECIFIED);
  });

  it("keeps a container that was started, and its volume, though the end of its creation is lost", async () => {
    const id = await bench.runScript("exec sleep 1000", { config: { volumes: ["/data"] } });
    const record = bench.state.containers.get(id) ?? assert.fail();
    const [volume = assert.fail()] = bench.state.volumes.values();
    await bench.state.commit((change) => {
      change.containers.put({ ...record, phase: Phase.CREATING, generation: 0n, mounts: [] });
      change.volumes.put({ ...volume, phase: Phase.CREATING });
    });
    await bench.stopBackend();
    await bench.startBackend();
    await bench.engine.context.background.settle();
    assert.deepEqual([...bench.machine.workloads.keys()], [id]);
    assert.deepEqual([...bench.machine.volumes], [volume.name]);
    await bench.state.commit((change) => change.containers.put(record));
    await bench.stopBackend();
    await bench.startBackend();
    assert.equal((await inspect(id))?.state?.status, ContainerStatus.RUNNING);
    await bench.volumes.inspectVolume({ name: volume.name });
  });

  it("leaves a volume alone whose record is lost and which cannot be used at the start", async () => {
    await bench.volumes.createVolume({ name: "data" });
    await bench.state.commit((change) => change.volumes.delete("data"));
    await bench.stopBackend();
    bench.machine.refused.add("make volume");
    await bench.startBackend();
    await assert.rejects(bench.volumes.createVolume({ name: "data" }), /no space left/);
    await assert.rejects(bench.volumes.removeVolume({ name: "data" }), /no such volume/);
    assert.deepEqual([...bench.machine.volumes], ["data"]);
    bench.machine.refused.delete("make volume");
    await bench.volumes.createVolume({ name: "data" });
  });

  it("takes over a volume whose record is lost, and nobody is told that it was made", async () => {
    await bench.volumes.createVolume({ name: "data" });
    const { volume: before } = await bench.volumes.inspectVolume({ name: "data" });
    await bench.state.commit((change) => change.volumes.delete("data"));
    await bench.stopBackend();
    await bench.startBackend();
    assert.deepEqual((await bench.volumes.inspectVolume({ name: "data" })).volume, before);
    assert.deepEqual(await bench.eventNames({ type: ["volume"] }), ["volume create"]);
  });

  it("takes up a start that was under way", async () => {
    const id = await bench.createScript("exec sleep 1000");
    const record = bench.state.containers.get(id);
    assert.ok(record !== undefined);
    await bench.state.commit((change) =>
      change.containers.put({ ...record, phase: Phase.STARTING, generation: 1n }),
    );
    await bench.stopBackend();
    await bench.startBackend();
    await until(async () => (await inspect(id))?.state?.status === ContainerStatus.RUNNING || undefined);
    assert.equal(bench.machine.agentOf(id).starts.length, 1);
  });

  it("keeps the IDs of its networks and of itself", async () => {
    const before = await bench.networks.listNetworks({});
    const { id } = await bench.system.getInfo({});
    await bench.stopBackend();
    await bench.startBackend();
    assert.deepEqual(await bench.networks.listNetworks({}), before);
    assert.equal((await bench.system.getInfo({})).id, id);
  });

  it("keeps files of containers that nobody knows until a user prunes, and leaves alone what runs", async () => {
    const running = await bench.runScript("exec sleep 1000");
    const lost = await bench.createScript("true");
    const back = await bench.createScript("true");
    const record = bench.state.containers.get(back) ?? assert.fail();
    await bench.state.commit((change) => {
      for (const id of [running, lost, back]) {
        change.containers.delete(id);
      }
    });
    const restart = async (): Promise<readonly string[]> => {
      await bench.stopBackend();
      await bench.startBackend();
      await bench.engine.context.background.settle();
      return (await bench.system.getInfo({})).warnings.filter((each) => each.includes("lost records"));
    };
    assert.match((await restart()).join(), /files of 2 container\(s\)/);
    assert.deepEqual([...bench.machine.workloads.keys()], [running, lost, back]);
    await bench.state.commit((change) => change.containers.put(record));
    assert.match((await restart()).join(), /files of 1 container\(s\)/);
    await bench.containers.pruneContainers({ filters: { label: { values: ["x"] } } });
    assert.deepEqual([...bench.machine.workloads.keys()], [running, lost, back]);
    const { removed: gone } = await bench.containers.pruneContainers({});
    assert.deepEqual([...gone].toSorted(), [lost, back].toSorted());
    assert.deepEqual([...bench.machine.workloads.keys()], [running]);
    assert.deepEqual(await restart(), []);
  });

  it("clears away what was cut off before anybody was told of it", async () => {
    const id = await bench.createScript("true");
    await bench.state.commit((change) => change.containers.delete(id));
    bench.machine.unfinished.add(id);
    await bench.stopBackend();
    await bench.startBackend();
    await bench.engine.context.background.settle();
    assert.equal(bench.machine.workloads.size, 0);
  });
});

describe("a container whose agent dies", () => {
  for (const [code, condition, autoRemove] of [
    [0, WaitCondition.NEXT_EXIT, false],
    [3, WaitCondition.NEXT_EXIT, false],
    [3, WaitCondition.REMOVED, true],
  ] as const) {
    it(`tells who waits on a cloud ${autoRemove ? "for its removal " : ""}an error with the code ${code} that its platform has`, async () => {
      await using bench = await EngineBench.start({ cloud: true });
      const id = await bench.createScript("exec sleep 1000", { hostConfig: { autoRemove } });
      const told = (async () => {
        for await (const { message } of bench.containers.waitContainer({ container: id, condition })) {
          if (message.case === "exited") {
            return message.value;
          }
        }
        return assert.fail("the wait was cut");
      })();
      await bench.containers.startContainer({ container: id });
      const agent = bench.machine.agentOf(id);
      const workload = bench.machine.workloads.get(id);
      await untilTrue(() => bench.engine.context.live.of(id).link?.wasHeard === true);
      assert.ok(workload !== undefined);
      workload.agent = undefined;
      workload.exit = { code, oomKilled: false, finishedAt: new Date() };
      await agent.crash();
      const { exitCode, error } = await told;
      assert.deepEqual(
        [Number(exitCode), error],
        [code, "the container's agent was lost: its output may not be whole"],
      );
    });
  }

  const skip = !isSoak && "takes half a minute";
  it("is asked for at its platform as soon as it has been silent for too long", { skip }, async () => {
    await using bench = await EngineBench.start({ cloud: true });
    const id = await bench.runScript("exec sleep 600");
    const { workloads } = bench.machine.driver();
    const found = Promise.withResolvers<string>();
    bench.engine.context.driver.workloads.find = (asked) => {
      found.resolve(asked);
      return workloads.find(asked);
    };
    assert.equal(await found.promise, id); // Its watch has told its state, and is silent since.
  });

  for (const last of ["nothing", "its end", "its end behind what waits for the disk"] as const) {
    it(`is concluded as soon as its platform reports its end, and tells ${last} by then`, async () => {
      await using bench = await EngineBench.start({ cloud: true });
      const id = await bench.runScript("exec sleep 600");
      const agent = bench.machine.agentOf(id);
      await untilTrue(() => bench.engine.context.live.of(id).link?.wasHeard === true);
      const ended = bench.wait(id);
      const workload = bench.machine.workloads.get(id);
      assert.ok(workload !== undefined);
      workload.agent = undefined; // Its connection stays open.
      workload.exit = { code: 137, oomKilled: false, finishedAt: new Date() };
      bench.machine.ends.emit(id);
      if (last === "its end behind what waits for the disk") {
        void bench.engine.context.live.of(id).lock.run(() => sleep(500));
        agent.tell({ case: "oom", value: create(OutOfMemorySchema) });
      }
      if (last !== "nothing") {
        agent.tell({ case: "exited", value: create(ExitStatusSchema, { code: 7 }) });
      }
      assert.equal(await ended, last === "nothing" ? 137 : 7);
      await agent.stop();
    });
  }

  it("is stopped by a stop all the same, with 255 as nobody knows better", async () => {
    await using bench = await EngineBench.start();
    const id = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(id);
    const workload = bench.machine.workloads.get(id);
    assert.ok(workload !== undefined);
    workload.agent = undefined;
    await agent.crash();
    await bench.containers.stopContainer({ container: id }).catch((error: unknown) => {
      assert.ok(isErrorKind(error, "not-modified"));
    });
    assert.equal(await bench.wait(id), 255);
    await bench.containers.startContainer({ container: id });
  });
});
