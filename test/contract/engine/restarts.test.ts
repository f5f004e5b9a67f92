import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { ContainerStatus, WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import type { Change, ChangeKind } from "../../../src/backends/state/state.ts";
import { isErrorKind, messageOf, unavailable } from "../../../src/common/errors.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a container that its policy starts again", () => {
  const bench = EngineBench.ofEach();

  const statusOf = (id: string) => bench.state.containers.get(id)?.state?.status;

  /** Lets it crash until its policy waits long enough for a test to meet it waiting. */
  const crashing = async (
    portBindings: readonly { readonly containerPort: string; readonly hostPort: string }[] = [],
  ): Promise<string> => {
    const id = await bench.runScript("exit 6", {
      hostConfig: { portBindings: [...portBindings], restartPolicy: { name: "always" } },
    });
    while ((bench.state.containers.get(id)?.restartCount ?? 0) < 5) {
      await bench.wait(id, WaitCondition.NEXT_EXIT);
    }
    assert.equal(statusOf(id), ContainerStatus.RESTARTING);
    return id;
  };

  /** Launches fail as where the machine does not answer. */
  const refusing = (): PromiseWithResolvers<void> => {
    const launches = Promise.withResolvers<void>();
    launches.promise.catch(() => undefined);
    launches.reject(unavailable("the machine is away"));
    return launches;
  };

  /** Has starts fail so until one of a generation has, and settled. */
  const failStarts = async (id: string, generation: bigint): Promise<void> => {
    bench.machine.busyLaunches = refusing();
    await untilTrue(() => {
      const record = bench.state.containers.get(id);
      return record !== undefined && record.generation >= generation && record.phase === Phase.UNSPECIFIED;
    });
  };

  it("ends the wait of who waits for it when a user stops it between two runs", async () => {
    const id = await crashing();
    const waiting = bench.wait(id, WaitCondition.NOT_RUNNING);
    await bench.containers.stopContainer({ container: id });
    assert.equal(await waiting, 6);
    assert.equal(statusOf(id), ContainerStatus.EXITED);
  });

  it("is there, with its volumes, after restarts at once of one with --rm", async () => {
    const hostConfig = { autoRemove: true, binds: ["/own"] };
    const id = await bench.runScript("exec sleep 1000", { hostConfig });
    const restarts = Array.from({ length: 4 }, async (_, at) => {
      await setTimeout(3 * at);
      await bench.containers.restartContainer({ container: id, timeoutSeconds: 1, clientToken: `r${at}` });
    });
    await Promise.all(restarts);
    assert.equal(statusOf(id), ContainerStatus.RUNNING);
    assert.equal(bench.state.volumes.size, 1);
  });

  it("is removed, with its volumes, where the start of a restart of one with --rm is refused", async (t) => {
    const hostConfig = { autoRemove: true, binds: ["/own"] };
    const id = await bench.runScript("exec sleep 1000", { hostConfig });
    const { state } = bench.engine.context;
    const commit = state.commit.bind(state);
    t.mock.method(state, "commit", (describe: (change: Change) => void, kind?: ChangeKind) => {
      let isRefused = false;
      const put = (change: Change) => (record: ContainerRecord) => {
        isRefused ||= record.phase === Phase.STARTING;
        return isRefused || change.containers.put(record);
      };
      const committed = commit(
        (change) => describe({ ...change, containers: { ...change.containers, put: put(change) } }),
        kind,
      );
      return isRefused ? Promise.reject(new Error("the containers are full")) : committed;
    });
    await assert.rejects(bench.containers.restartContainer({ container: id, timeoutSeconds: 0 }), /full/);
    await untilTrue(() => bench.state.containers.get(id) === undefined);
    assert.equal(bench.state.volumes.size, 0);
  });

  it("is restarted beside a restart that waits for its end without a limit", {
    timeout: 30_000,
  }, async () => {
    const id = await bench.runUntilTerm("");
    const left = new AbortController();
    const endless = bench.containers.restartContainer(
      { container: id, timeoutSeconds: -1 },
      { signal: left.signal },
    );
    endless.catch(() => undefined);
    await untilTrue(() => bench.state.containers.get(id)?.stoppedByUser === true);
    left.abort();
    await bench.containers.restartContainer({ container: id, timeoutSeconds: 0 });
    assert.equal(statusOf(id), ContainerStatus.RUNNING);
  });

  for (const end of ["stopped", "killed"] as const) {
    it(`is there, with its volumes, where the backend is ${end} within the restart of one with --rm`, async () => {
      const id = await bench.runUntilTerm("sleep 1; exit 0", {
        config: { image: "with-volume" },
        hostConfig: { autoRemove: true, binds: ["/own"] },
      });
      const volumes = [...bench.state.volumes.keys()].sort();
      const restarted = bench.containers.restartContainer({ container: id, timeoutSeconds: 30 });
      restarted.catch(() => undefined);
      await untilTrue(() => bench.state.containers.get(id)?.stoppedByUser === true);
      await (end === "stopped" ? bench.stopBackend() : bench.crashBackend());
      await bench.startBackend();
      await untilTrue(() => (bench.state.containers.get(id)?.generation ?? 0n) === 2n);
      await untilTrue(() => statusOf(id) === ContainerStatus.RUNNING);
      assert.deepEqual([...bench.state.volumes.keys()].sort(), volumes);
      assert.equal(bench.state.containers.get(id)?.restartToken, "");
      await bench.containers.killContainer({ container: id });
      await untilTrue(() => bench.state.volumes.size === 0); // A later end removes it.
    });
  }

  it("ends the wait of who waits for it when it cannot be started again", async () => {
    const id = await crashing([{ containerPort: "80/tcp", hostPort: "8080" }]);
    bench.machine.takenPorts.add(8080);
    assert.equal(await bench.wait(id, WaitCondition.NOT_RUNNING), 128);
    assert.equal(statusOf(id), ContainerStatus.EXITED);
    assert.match(bench.state.containers.get(id)?.state?.error ?? "", /port is already allocated/);
  });

  it("is not given up where the machine cannot be reached for its restart", async () => {
    const id = await bench.runScript("exit 6", { hostConfig: { restartPolicy: { name: "always" } } });
    const waiting = bench.wait(id, WaitCondition.NOT_RUNNING);
    await bench.wait(id, WaitCondition.NEXT_EXIT);
    await failStarts(id, (bench.state.containers.get(id)?.generation ?? 0n) + 2n);
    const { state, restartCount } = bench.state.containers.get(id) ?? assert.fail();
    assert.deepEqual(
      [state?.status, state?.exitCode, state?.error],
      [ContainerStatus.RESTARTING, 6, "the machine is away"],
    );
    bench.machine.busyLaunches = undefined;
    await untilTrue(() => (bench.state.containers.get(id)?.restartCount ?? 0) > restartCount);
    await bench.containers.stopContainer({ container: id });
    assert.equal(await waiting, 6);
  });

  it("is not given up by a backend that takes such a restart up", async () => {
    const id = await bench.runScript("exit 6", { hostConfig: { restartPolicy: { name: "always" } } });
    await untilTrue(() => statusOf(id) === ContainerStatus.RESTARTING);
    const record = bench.state.containers.get(id) ?? assert.fail();
    await bench.stopBackend();
    await bench.startBackend();
    await bench.containers.stopContainer({ container: id });
    await bench.state.commit((change) =>
      change.containers.put({ ...record, phase: Phase.STARTING, generation: record.generation + 10n }),
    );
    await bench.stopBackend();
    bench.machine.busyLaunches = refusing();
    await bench.startBackend();
    await failStarts(id, record.generation + 11n);
    bench.machine.busyLaunches = undefined;
    await untilTrue(() => (bench.state.containers.get(id)?.restartCount ?? 0) > record.restartCount);
    await bench.containers.stopContainer({ container: id });
  });

  it("is started by the next backend as soon as the machine can be reached", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      hostConfig: { restartPolicy: { name: "always" } },
    });
    await bench.containers.stopContainer({ container: id });
    const { generation } = bench.state.containers.get(id) ?? assert.fail();
    await bench.stopBackend();
    bench.machine.busyLaunches = refusing();
    await bench.startBackend();
    await failStarts(id, generation + 1n);
    bench.machine.busyLaunches = undefined;
    await untilTrue(() => statusOf(id) === ContainerStatus.RUNNING);
  });

  it("is started where that was interrupted at boot, and finds the machine away", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      hostConfig: { restartPolicy: { name: "always" } },
    });
    await bench.containers.stopContainer({ container: id });
    const record = bench.state.containers.get(id) ?? assert.fail();
    const generation = record.generation + 1n;
    const begun = { ...record, phase: Phase.STARTING, generation, stoppedByUser: false };
    await bench.state.commit((change) => change.containers.put(begun));
    await bench.stopBackend();
    bench.machine.busyLaunches = refusing();
    await bench.startBackend();
    await failStarts(id, generation);
    bench.machine.busyLaunches = undefined;
    await untilTrue(() => statusOf(id) === ContainerStatus.RUNNING);
  });

  it("keeps its last exit where a user's start finds the machine away", async () => {
    const id = await bench.runScript("exit 6");
    assert.equal(await bench.wait(id), 6);
    bench.machine.busyLaunches = refusing();
    await assert.rejects(
      bench.containers.startContainer({ container: id }),
      (error) => isErrorKind(error, "unavailable") && /the machine is away/.test(messageOf(error)),
    );
    bench.machine.busyLaunches = undefined;
    const { state } = bench.state.containers.get(id) ?? assert.fail();
    assert.deepEqual([state?.status, state?.exitCode], [ContainerStatus.EXITED, 6]);
    await bench.containers.startContainer({ container: id });
    assert.equal(await bench.wait(id), 6);
  });

  it("cannot be paused or looked into between two runs", async () => {
    const id = await crashing();
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /is restarting, wait until/);
    await assert.rejects(bench.containers.topContainer({ container: id }), /is restarting, wait until/);
    await bench.containers.stopContainer({ container: id });
  });

  it("stays down when the backend dies in a stop whose signal its agent has not answered", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      hostConfig: { restartPolicy: { name: "unless-stopped" } },
    });
    const agent = bench.machine.agentOf(id);
    agent.failures.add("signal");
    const stopped = bench.containers.stopContainer({ container: id });
    stopped.catch(() => undefined);
    await untilTrue(() => agent.signalAttempts > 0);
    await bench.crashBackend();
    process.kill(agent.pid, "SIGTERM");
    await untilTrue(() => agent.exit !== undefined);
    await bench.startBackend();
    await untilTrue(() => statusOf(id) !== ContainerStatus.RUNNING);
    assert.equal(statusOf(id), ContainerStatus.EXITED);
  });
});
