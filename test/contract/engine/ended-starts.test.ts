import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { ContainerStatus, WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { Phase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a start whose launch takes long", () => {
  const bench = EngineBench.ofEach(() => ({ cloud: true }));

  const launches = () => bench.machine.calls.filter((call) => call === "launch").length;
  const recordOf = (id: string) => bench.state.containers.get(id);
  const isReleased = () => bench.machine.calls.at(-1) === "release";
  const ended = (id: string, how: string) => (error: unknown) =>
    isErrorKind(error, "conflict") &&
    messageOf(error) === `container ${id} was ${how} while it was being started`;

  /** Asks for a start whose launch does not end by itself. */
  const start = async (id: string) => {
    bench.machine.busyLaunches = Promise.withResolvers();
    const before = launches();
    const started = bench.containers.startContainer({ container: id });
    started.catch(() => undefined);
    await untilTrue(() => launches() > before);
    return started.then(() => assert.fail("it has started"));
  };
  const starting = async (more = {}) => {
    const id = await bench.createScript("exec sleep 1000", more);
    const started = start(id);
    started.catch(() => undefined);
    await untilTrue(() => recordOf(id)?.phase === Phase.STARTING && launches() > 0);
    return { id, started };
  };

  it("is ended by a removal by force, which leaves nothing", async () => {
    const { id, started } = await starting();
    await bench.containers.removeContainer({ container: id, force: true });
    await assert.rejects(started, ended(id, "removed"));
    await untilTrue(() => recordOf(id) === undefined && !bench.machine.workloads.has(id));
  });

  for (const [how, end] of [
    ["stopped", (id: string) => bench.containers.stopContainer({ container: id })],
    ["killed", (id: string) => bench.containers.killContainer({ container: id })],
  ] as const) {
    it(`is ended where the container is ${how}, which no policy starts then`, async () => {
      const { id, started } = await starting({ hostConfig: { restartPolicy: { name: "unless-stopped" } } });
      await end(id);
      await assert.rejects(started, ended(id, how));
      await untilTrue(isReleased);
      await bench.stopBackend();
      await bench.startBackend();
      assert.equal(launches(), 1);
      assert.deepEqual(
        [recordOf(id)?.state?.status, recordOf(id)?.stoppedByUser],
        [ContainerStatus.CREATED, true],
      );
    });
  }

  it("is ended with the starts that wait for it, and starts when it is asked for anew", async () => {
    const { id, started } = await starting();
    const second = bench.containers.startContainer({ container: id });
    second.catch(() => undefined);
    await bench.containers.stopContainer({ container: id });
    await assert.rejects(started, ended(id, "stopped"));
    await assert.rejects(second, ended(id, "stopped"));
    bench.machine.busyLaunches = undefined;
    await bench.containers.startContainer({ container: id });
    assert.equal(recordOf(id)?.state?.status, ContainerStatus.RUNNING);
  });

  it("is ended where a policy has asked for it", async () => {
    const id = await bench.runScript("sleep 0.2; exit 3", {
      hostConfig: { restartPolicy: { name: "always" } },
    });
    bench.machine.busyLaunches = Promise.withResolvers();
    await untilTrue(() => launches() > 1);
    const waited = bench.wait(id, WaitCondition.NOT_RUNNING);
    await bench.containers.stopContainer({ container: id });
    assert.equal(await waited, 128);
    assert.equal(recordOf(id)?.state?.status, ContainerStatus.EXITED);
    assert.equal(launches(), 2);
  });

  for (const how of ["stopContainer", "killContainer"] as const) {
    it(`is ended by ${how} where a policy has asked for it, and the disk has become full`, async (t) => {
      const id = await bench.runScript("sleep 0.2; exit 3", {
        hostConfig: { restartPolicy: { name: "always" } },
      });
      bench.machine.busyLaunches = Promise.withResolvers();
      await untilTrue(() => launches() > 1);
      t.mock.getter(bench.engine.context.state, "failure", () => "no space left on device");
      const waited = bench.wait(id, WaitCondition.NOT_RUNNING);
      await bench.containers[how]({ container: id });
      assert.equal(await waited, 128);
      assert.equal(recordOf(id)?.state?.status, ContainerStatus.EXITED);
      assert.equal(launches(), 2);
    });
  }

  it("takes a container with it that is removed with its end", async () => {
    const { id, started } = await starting({ hostConfig: { autoRemove: true } });
    await bench.containers.stopContainer({ container: id });
    await assert.rejects(started, ended(id, "stopped"));
    await untilTrue(() => recordOf(id) === undefined && !bench.machine.workloads.has(id));
  });

  it("takes it along, and who attaches to it hears so, where its last run is still being taken away", async () => {
    const id = await bench.runScript("exec sleep 1000", { hostConfig: { autoRemove: true } });
    bench.machine.busyReleases = Promise.withResolvers();
    const restarted = bench.containers.restartContainer({ container: id, timeoutSeconds: 0 });
    restarted.catch(() => undefined);
    await untilTrue(() => bench.engine.context.live.of(id).run.start !== undefined);
    const attached = bench.containers.attachContainer({ container: id, stream: true, stdout: true });
    const answers = attached[Symbol.asyncIterator]();
    await answers.next();
    const endpoint = answers.next();
    endpoint.catch(() => undefined);
    await bench.containers.stopContainer({ container: id });
    await assert.rejects(restarted, /was stopped while it was being started/);
    await assert.rejects(endpoint, /was stopped while it was being started/);
    bench.machine.busyReleases.resolve();
    await untilTrue(() => recordOf(id) === undefined && !bench.machine.workloads.has(id));
  });

  it("is not taken up by the next backend where a user was ending it", async () => {
    const { id } = await starting();
    const record = recordOf(id);
    assert.ok(record !== undefined);
    await bench.state.commit((change) => change.containers.put({ ...record, stoppedByUser: true }));
    await bench.stopBackend();
    assert.equal(launches(), 1);
    await bench.startBackend();
    await untilTrue(() => recordOf(id)?.phase !== Phase.STARTING);
    assert.deepEqual([recordOf(id)?.state?.status, launches()], [ContainerStatus.CREATED, 1]);
    await untilTrue(isReleased);
  });

  it("is waited for by a removal without force", async () => {
    const { id, started } = await starting();
    started.catch(() => undefined);
    const removed = bench.containers.removeContainer({ container: id });
    removed.catch(() => undefined);
    await bench.system.getCapabilities({});
    bench.machine.busyLaunches?.resolve();
    await assert.rejects(removed, (error) => isErrorKind(error, "conflict"));
    assert.equal(recordOf(id)?.state?.status, ContainerStatus.RUNNING);
  });
});
