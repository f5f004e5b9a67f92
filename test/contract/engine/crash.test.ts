import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { repeatedWithinMs } from "../../../src/backends/engine/containers/start/start-caller.ts";
import { type Clock, systemClock } from "../../../src/common/clock.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { Phase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { isSoak } from "../../support/soak.ts";
import { EngineBench, localAccess } from "../engine-bench.ts";

/** A container's whole life, with everything that is journalled on the way. */
async function wholeLife(bench: EngineBench): Promise<void> {
  for (const name of ["own", "joined"]) {
    await bench.networks.createNetwork({ name });
  }
  const id = await bench.createScript("exec sleep 1000", {
    name: "whole",
    config: { image: "with-volume" },
    hostConfig: {
      binds: ["kept:/kept", "/own"],
      mounts: [{ type: "volume", source: "kept", target: "/part", volumeOptions: { subpath: "part/of/it" } }],
      networkMode: "own",
    },
  });
  await bench.containers.startContainer({ container: id });
  await bench.networks.connectNetwork({ network: "joined", container: id });
  await bench.networks.disconnectNetwork({ network: "own", container: id });
  const { id: execId } = await bench.execs.createExec({ container: id, config: { cmd: ["true"] } });
  const { endpoint } = await bench.execs.startExec({ execId, access: localAccess });
  await bench.session(endpoint, { openExec: { execId, process: { args: ["true"] } } });
  await bench.execs.awaitExec({ execId });
  await bench.containers.restartContainer({ container: id, timeoutSeconds: 5 });
  await bench.containers.stopContainer({ container: id });
  await bench.containers.removeContainer({ container: id, volumes: true });
  for (const network of ["own", "joined"]) {
    await bench.networks.removeNetwork({ network });
  }
  await bench.volumes.removeVolume({ name: "kept" });
  await bench.runScript("exit 0", { name: "passing", hostConfig: { autoRemove: true } });
  await bench.engine.context.background.settle();
}

/** Asserts what must hold of a backend at rest, whatever happened to the one before it. */
async function assertSound(bench: EngineBench): Promise<void> {
  const { containers } = await bench.containers.listContainers({ all: true });
  for (const { id, state } of containers) {
    const record = bench.state.containers.get(id);
    assert.equal(record?.phase, Phase.UNSPECIFIED, `${id} is at rest`);
    const workload = bench.machine.workloads.get(id);
    assert.ok(workload !== undefined, `${id} has a workload`);
    if (state?.status === ContainerStatus.RUNNING) {
      assert.equal(workload.agent?.options.generation, record?.generation);
    } else {
      assert.equal(workload.agent, undefined, `${id} holds nothing`);
    }
  }
  const known = new Set(containers.map(({ id }) => id));
  assert.deepEqual(
    [...bench.machine.workloads.keys()].filter((id) => !known.has(id)),
    [],
    "nothing is left of containers that are gone",
  );
  assert.deepEqual(new Set(bench.state.volumes.keys()), bench.machine.volumes, "volumes are known and there");
  const parts = [...bench.state.volumes.values()].flatMap((volume) =>
    volume.parts.map(({ subpath }) => `${volume.name}/${subpath}`),
  );
  const unknownParts = [...bench.machine.volumeParts].filter((part) => !parts.includes(part));
  assert.deepEqual(unknownParts, [], "parts of volumes are known");
  const networks = [...bench.state.networks.values()].map(({ network }) => network?.name ?? "");
  assert.deepEqual(new Set(networks), bench.machine.networks, "networks are known and there");
  const legs = [...bench.state.containers.values()].flatMap(({ id, endpoints }) =>
    Object.entries(endpoints)
      .filter(([, { endpointId }]) => endpointId !== "")
      .map(([name]) => `${id} ${name}`),
  );
  assert.deepEqual(
    new Set(legs),
    bench.machine.legs,
    "containers are on the networks that they are said to be on",
  );
  for (const exec of bench.state.execs.values()) {
    assert.ok(known.has(exec.containerId), "execs belong to containers");
  }
}

/** Backends that die at once: their lives wait for processes more than they compute. */
const atOnce = 4;

/** Commits from one death to the next. */
const stride = isSoak ? 1 : 10;

/** A clock by which a client whose start was cut off is not awaited for long. */
const hasty: Clock = {
  nowMs: () => systemClock.nowMs(),
  nowNs: () => systemClock.nowNs(),
  sleep: (ms, signal) => systemClock.sleep(ms === repeatedWithinMs ? 10 : ms, signal),
};

/** Lets a backend die at a commit of a whole life, and asserts that the next one is sound and works. */
async function surviveCrashAfter(commits: number): Promise<"crashed" | "lived"> {
  const bench = await EngineBench.start({ clock: hasty });
  try {
    await bench.stopBackend();
    const crashed = Promise.withResolvers<"crashed">();
    await bench.startBackend({ commits, reached: () => crashed.resolve("crashed") });
    const life = wholeLife(bench).then(() => "lived" as const);
    life.catch(() => undefined);
    const end = await Promise.race([life, crashed.promise]);
    // The driver finishes what it was about to do before the crash.
    await new Promise((resolve) => setTimeout(resolve, 20));
    await bench.crashBackend();

    await bench.startBackend();
    await untilAtRest(bench);
    await assertSound(bench);
    for (const { id } of (await bench.containers.listContainers({ all: true })).containers) {
      await bench.containers.removeContainer({ container: id, force: true, volumes: true });
    }
    await bench.networks.pruneNetworks({});
    await wholeLife(bench);
    await assertSound(bench);
    return end;
  } catch (error) {
    throw new Error(`after ${commits} commits`, { cause: error });
  } finally {
    await bench.close();
  }
}

/** At each tenth in `npm test`, at every one with SOCKERLESS_SOAK=1. */
describe("a backend that dies at any commit", () => {
  it("is sound again when it is started again, and works", async () => {
    for (let first = 0; ; first += atOnce * stride) {
      const commits = Array.from({ length: atOnce }, (_, index) => first + index * stride);
      const ends = await Promise.all(commits.map(surviveCrashAfter));
      const whole = commits[ends.indexOf("lived")];
      if (whole !== undefined) {
        assert.ok(whole > 20, `the whole life is ${whole} commits`);
        return;
      }
    }
  });
});

/** Until nothing is half done: starts that were taken up run, what removes itself has, remains are cleared away. */
async function untilAtRest(bench: EngineBench): Promise<void> {
  const isAtRest = (): boolean =>
    [...bench.state.containers.values()].every(
      ({ phase, hostConfig, state }) =>
        phase === Phase.UNSPECIFIED &&
        (hostConfig?.autoRemove !== true || state?.status === ContainerStatus.CREATED),
    );
  while (!isAtRest()) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  for (const { id } of bench.state.containers.values()) {
    const live = bench.engine.context.live.of(id);
    await live.lock.run(() => Promise.resolve()); // its networks are adopted
    await live.released;
  }
}
