import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";
import { newId } from "../../../src/common/ids.ts";
import { isErrorKind, messageOf, unavailable } from "../../../src/common/errors.ts";
import { ContainerStatus, WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { configOf } from "../../../src/backends/model/records.ts";
import type { VolumeRecord } from "../../../src/gen/sockerless/state/v1/state_pb.ts";

describe("a container's life", () => {
  const bench = EngineBench.ofEach();

  const inspect = async (container: string) => {
    const { container: detail } = await bench.containers.inspectContainer({ container });
    assert.ok(detail?.state !== undefined);
    return { ...detail, state: detail.state };
  };

  it("is created, runs, exits with its code, and is gone when it is removed", async () => {
    const id = await bench.createScript("exit 7", { name: "seven" });
    assert.equal((await inspect(id)).state.status, ContainerStatus.CREATED);
    const exit = bench.wait(id, WaitCondition.NEXT_EXIT);
    await bench.containers.startContainer({ container: "seven" });
    assert.equal(await exit, 7);
    const { state } = await inspect("/seven");
    assert.equal(state.status, ContainerStatus.EXITED);
    assert.equal(state.exitCode, 7);
    assert.ok(state.startedAt !== undefined && state.finishedAt !== undefined);
    await bench.containers.removeContainer({ container: id.slice(0, 12) });
    await assert.rejects(
      inspect(id),
      (error) => isErrorKind(error, "not-found") && messageOf(error) === `No such container: ${id}`,
    );
  });

  it("starts again after it has exited, each time as a new run", async () => {
    const id = await bench.runScript("exit 1");
    assert.equal(await bench.wait(id), 1);
    const exit = bench.wait(id, WaitCondition.NEXT_EXIT);
    await bench.containers.startContainer({ container: id });
    assert.equal(await exit, 1);
    assert.equal(bench.state.containers.get(id)?.generation, 2n);
  });

  it("is not modified by a second start or a second stop", async () => {
    const id = await bench.runScript("exec sleep 1000");
    await assert.rejects(bench.containers.startContainer({ container: id }), (error) =>
      isErrorKind(error, "not-modified"),
    );
    await bench.containers.stopContainer({ container: id });
    await assert.rejects(bench.containers.stopContainer({ container: id }), (error) =>
      isErrorKind(error, "not-modified"),
    );
    assert.equal((await inspect(id)).state.exitCode, 143);
  });

  it("is killed when it does not stop in time", async () => {
    const ready = path.join(bench.machine.directory, "ready");
    const id = await bench.runScript(`trap "" TERM; : > ${ready}; while :; do sleep 0.05; done`);
    while (!existsSync(ready)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await bench.containers.stopContainer({ container: id, timeoutSeconds: 0 });
    assert.equal((await inspect(id)).state.exitCode, 137);
  });

  it("takes its stop signal from its configuration", async () => {
    const id = await bench.runScript("exec sleep 1000", { config: { stopSignal: "SIGUSR1" } });
    const agent = bench.machine.agentOf(id);
    await bench.containers.stopContainer({ container: id, timeoutSeconds: -1 });
    assert.deepEqual(agent.calls, ["signal 10"]);
    assert.equal((await inspect(id)).state.exitCode, 138);
  });

  it("stops where its image's stop signal is none", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const record = bench.state.containers.get(id) ?? assert.fail();
    const config = { ...configOf(record), stopSignal: "SIGNOPE" };
    await bench.state.commit((change) => change.containers.put({ ...record, config }));
    await bench.containers.killContainer({ container: id, signal: "SIGCONT" });
    await bench.containers.stopContainer({ container: id, timeoutSeconds: -1 });
    assert.equal((await inspect(id)).state.exitCode, 143);
  });

  it("keeps a command that does not exist in the state created, with Docker's code and words", async () => {
    const { id } = await bench.containers.createContainer({
      config: { image: "shell", cmd: { values: ["/nowhere/command"] } },
    });
    await assert.rejects(bench.containers.startContainer({ container: id }), (error) => {
      assert.match(messageOf(error), /^failed to create task for container: .*executable file not found/);
      return isErrorKind(error, "invalid");
    });
    const { state } = await inspect(id);
    assert.equal(state.status, ContainerStatus.CREATED);
    assert.equal(state.exitCode, 127);
    assert.match(state.error, /executable file not found/);
    assert.deepEqual(await bench.eventNames({ type: ["container"] }), ["container create"]);
  });

  it("fails to start with the driver's words when a port is taken, and starts when it is free", async () => {
    bench.machine.takenPorts.add(8080);
    const id = await bench.createScript("exec sleep 1000", {
      hostConfig: { portBindings: [{ containerPort: "80/tcp", hostPort: "8080" }] },
    });
    await assert.rejects(
      bench.containers.startContainer({ container: id }),
      (error) => isErrorKind(error, "system") && /port is already allocated/.test(messageOf(error)),
    );
    assert.equal((await inspect(id)).state.exitCode, 128);
    bench.machine.takenPorts.clear();
    await bench.containers.startContainer({ container: id });
    const { networkSettings } = await inspect(id);
    assert.deepEqual(
      networkSettings?.ports.map((port) => [port.publicPort, port.privatePort, port.type]),
      [[8080, 80, "tcp"]],
    );
  });

  it("is refused a removal while it runs, unless forced", async () => {
    const id = await bench.runScript("exec sleep 1000", { name: "busy" });
    await assert.rejects(bench.containers.removeContainer({ container: "busy" }), (error) => {
      assert.equal(
        messageOf(error),
        'cannot remove container "busy": container is running: stop the container before removing or force remove',
      );
      return isErrorKind(error, "conflict");
    });
    const gone = bench.wait(id, WaitCondition.REMOVED);
    await bench.containers.removeContainer({ container: id, force: true });
    assert.equal(await gone, 137);
  });

  it("removes itself with its anonymous volumes when it was created so", async () => {
    const id = await bench.createScript("exit 3", {
      config: { volumes: ["/scratch"] },
      hostConfig: { autoRemove: true },
    });
    assert.equal(bench.machine.volumes.size, 1);
    const gone = bench.wait(id, WaitCondition.REMOVED);
    await bench.containers.startContainer({ container: id });
    assert.equal(await gone, 3);
    assert.equal(bench.machine.volumes.size, 0);
    assert.equal(bench.state.volumes.size, 0);
    await bench.engine.context.background.settle();
    assert.equal(bench.machine.workloads.size, 0);
    assert.equal(bench.state.containers.size, 0);
  });

  it("tells its end for a moment where it removes itself", async () => {
    const id = await bench.createScript("exit 3", { hostConfig: { autoRemove: true } });
    const exit = bench.wait(id, WaitCondition.NEXT_EXIT);
    await bench.containers.startContainer({ container: id });
    assert.equal(await exit, 3);
    await delay(20);
    assert.equal(await bench.wait(id), 3);
    await untilTrue(() => !bench.state.containers.has(id));
  });

  it("leaves no volume behind where the driver is away for a moment", async (context) => {
    const id = await bench.createScript("true", { config: { volumes: ["/scratch"] } });
    const { volumes } = bench.engine.context.driver;
    const remove = volumes.remove.bind(volumes);
    let calls = 0;
    context.mock.method(volumes, "remove", async (record: VolumeRecord) => {
      calls++;
      if (calls <= 2) {
        throw unavailable("away");
      }
      await remove(record);
    });
    await bench.containers.removeContainer({ container: id, volumes: true });
    await bench.engine.context.background.settle();
    assert.equal(bench.machine.volumes.size, 0);
    assert.equal(bench.state.volumes.size, 0);
  });

  it("frees its name the moment it is removed", async () => {
    const first = await bench.createScript("true", { name: "same" });
    await assert.rejects(bench.createScript("true", { name: "same" }), (error) => {
      assert.equal(
        messageOf(error),
        `Conflict. The container name "/same" is already in use by container "${first}". ` +
          "You have to remove (or rename) that container to be able to reuse that name.",
      );
      return isErrorKind(error, "conflict");
    });
    await bench.containers.removeContainer({ container: first });
    await bench.createScript("true", { name: "same" });
  });

  it("gets one of two creations of one name that come at once", async () => {
    const results = await Promise.allSettled([
      bench.createScript("true", { name: "twin" }),
      bench.createScript("true", { name: "twin" }),
    ]);
    assert.deepEqual(results.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  });

  it("is created once when the creation is repeated with its token", async () => {
    const first = await bench.createScript("true", { clientToken: "t1" });
    assert.equal(await bench.createScript("true", { clientToken: "t1" }), first);
    await bench.stopBackend();
    await bench.startBackend();
    assert.equal(await bench.createScript("true", { clientToken: "t1" }), first);
  });

  it("restarts: the old process ends, a new one runs", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const { pid } = (await inspect(id)).state;
    await bench.containers.restartContainer({ container: id, timeoutSeconds: 5 });
    const { state } = await inspect(id);
    assert.equal(state.status, ContainerStatus.RUNNING);
    assert.notEqual(state.pid, pid);
    assert.deepEqual(await bench.eventNames({ type: ["container"] }), [
      "container create",
      "container start",
      "container kill",
      "container die",
      "container stop",
      "container start",
      "container restart",
    ]);
  });

  it("is started again by its policy until a user stops it", async () => {
    const id = await bench.runScript("exit 1", {
      hostConfig: { restartPolicy: { name: "on-failure", maximumRetryCount: 2 } },
    });
    const exits: number[] = [await bench.wait(id, WaitCondition.NEXT_EXIT)];
    while ((await inspect(id)).state.status !== ContainerStatus.EXITED) {
      exits.push(await bench.wait(id));
    }
    assert.equal((await inspect(id)).restartCount, 2);
    assert.equal(bench.state.containers.get(id)?.generation, 3n);
  });

  it("is not restarted by its policy after a stop", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      hostConfig: { restartPolicy: { name: "always" } },
    });
    await bench.containers.stopContainer({ container: id });
    assert.equal((await inspect(id)).state.status, ContainerStatus.EXITED);
  });

  it("answers a wait for what has already happened at once, and one for the next exit at the next", async () => {
    const id = await bench.runScript("exit 2");
    assert.equal(await bench.wait(id), 2);
    assert.equal(await bench.wait(id, WaitCondition.NOT_RUNNING), 2);
    const created = await bench.createScript("exit 4");
    assert.equal(await bench.wait(created, WaitCondition.NOT_RUNNING), 0);
  });

  it("starts, restarts, ends and goes while all records hold what they may, and grows by no request", async () => {
    const id = await bench.createScript("exec sleep 1000", { hostConfig: { autoRemove: true } });
    const record = bench.state.containers.get(id);
    assert.ok(record !== undefined);
    const large = { ...record, id: newId(), name: "large", driverReference: "x".repeat(81 * 2 ** 20) };
    await bench.state.commit((change) => change.containers.put(large), "happened");
    const refused = /the containers may hold at most 64 MiB together/;
    await assert.rejects(bench.createScript("true"), refused);
    await assert.rejects(bench.containers.renameContainer({ container: id, name: "x".repeat(200) }), refused);
    await bench.containers.startContainer({ container: id });
    await bench.containers.restartContainer({ container: id, timeoutSeconds: 0 });
    await bench.containers.killContainer({ container: id, signal: "SIGKILL" });
    await untilTrue(() => !bench.state.containers.has(id));
  });

  it("says which signals it does not know and that it does not run", async () => {
    const id = await bench.createScript("true", { name: "idle" });
    await assert.rejects(
      bench.containers.killContainer({ container: "idle", signal: "SIGNOPE" }),
      (error) => isErrorKind(error, "invalid") && /invalid signal: SIGNOPE/.test(messageOf(error)),
    );
    await assert.rejects(
      bench.containers.killContainer({ container: "idle" }),
      (error) =>
        isErrorKind(error, "conflict") &&
        messageOf(error) === `cannot kill container: idle: container ${id} is not running`,
    );
  });
});
