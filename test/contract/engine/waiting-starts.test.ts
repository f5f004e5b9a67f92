import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { ContainerStatus, WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a start that waits for room on the platform", () => {
  const bench = EngineBench.ofEach();

  const stateOf = (id: string) => bench.state.containers.get(id)?.state;
  const launches = () => bench.machine.calls.filter((call) => call === "launch").length;

  /** Starts a container and meets its start waiting; `failure` resolves to what it fails with. */
  async function waiting(id: string, leave = new AbortController()) {
    bench.machine.room = Promise.withResolvers();
    const started = bench.containers.startContainer({ container: id }, { signal: leave.signal });
    const failure = started.then(
      () => assert.fail("it has started"),
      (error: unknown) => ConnectError.from(error),
    );
    failure.catch(() => undefined);
    const reason = `the machine is ${bench.machine.roomIs}`;
    await untilTrue(() => stateOf(id)?.error === `waits to be started: ${reason}`);
    return { leave, started, failure };
  }

  it("tells an inspect why, and runs when there is some", async () => {
    const id = await bench.createScript("exec sleep 1000");
    const { started } = await waiting(id);
    assert.equal(stateOf(id)?.status, ContainerStatus.CREATED);
    assert.equal(launches(), 0);
    bench.machine.room?.resolve();
    await started;
    assert.deepEqual([stateOf(id)?.status, stateOf(id)?.error], [ContainerStatus.RUNNING, ""]);
  });

  const ways: readonly (readonly [string, (id: string) => Promise<unknown>])[] = [
    ["is stopped", (id) => bench.containers.stopContainer({ container: id })],
    ["is killed", (id) => bench.containers.killContainer({ container: id })],
    ["is interrupted", (id) => bench.containers.killContainer({ container: id, signal: "SIGINT" })],
    ["is removed by force", (id) => bench.containers.removeContainer({ container: id, force: true })],
  ];
  for (const [what, giveUp] of ways) {
    it(`is given up when its container ${what}`, async () => {
      const id = await bench.createScript("exec sleep 1000");
      const { failure } = await waiting(id);
      await giveUp(id);
      const { code, message } = await failure;
      assert.equal(code, Code.AlreadyExists);
      assert.match(message, /was given up while it waited: the machine is full$/);
      bench.machine.room?.resolve();
      assert.equal(launches(), 0);
      const status = stateOf(id)?.status;
      assert.ok([undefined, ContainerStatus.REMOVING, ContainerStatus.CREATED].includes(status));
      assert.deepEqual(await bench.eventNames({ event: ["start"] }), []);
    });
  }

  it("is given up when the client that asked for it leaves", async () => {
    const id = await bench.createScript("exec sleep 1000");
    const { leave, failure } = await waiting(id);
    leave.abort();
    assert.equal((await failure).code, Code.Canceled);
    await untilTrue(() => /was given up while it waited/.test(stateOf(id)?.error ?? ""));
    bench.machine.room = undefined;
    await bench.containers.startContainer({ container: id });
    assert.equal(stateOf(id)?.status, ContainerStatus.RUNNING);
  });

  it("goes on without its client where it waits to be tried again", async () => {
    bench.machine.roomIs = "busy";
    const id = await bench.createScript("exec sleep 1000");
    const { leave, failure } = await waiting(id);
    leave.abort();
    assert.equal((await failure).code, Code.Canceled);
    await bench.system.getCapabilities({});
    bench.machine.room?.resolve();
    await untilTrue(() => stateOf(id)?.status === ContainerStatus.RUNNING);
  });

  it("goes on without its client from when there is room, and is a start like any other", async () => {
    const id = await bench.createScript("exec sleep 1000");
    const { leave, failure } = await waiting(id);
    bench.machine.busyLaunches = Promise.withResolvers();
    bench.machine.room?.resolve();
    await untilTrue(() => launches() === 1 && stateOf(id)?.error === "");
    leave.abort();
    assert.equal((await failure).code, Code.Canceled);
    const removed = bench.containers.removeContainer({ container: id });
    removed.catch(() => undefined);
    await bench.system.getCapabilities({});
    bench.machine.busyLaunches.resolve();
    await assert.rejects(removed, /container is running: stop the container/);
    assert.equal(stateOf(id)?.status, ContainerStatus.RUNNING);
  });

  const asked: readonly (readonly [string, (id: string) => Promise<unknown>])[] = [
    ["an exec", (id) => bench.execs.createExec({ container: id, config: { cmd: ["true"] } })],
    ["its processes", (id) => bench.containers.topContainer({ container: id })],
    ["another size", (id) => bench.containers.resizeContainer({ container: id, height: 20, width: 30 })],
  ];
  for (const [what, ask] of asked) {
    it(`is not waited for by who asks its container for ${what}`, async () => {
      const id = await bench.createScript("exec sleep 1000");
      const { started } = await waiting(id);
      await assert.rejects(ask(id), (error) => {
        const { code, rawMessage } = ConnectError.from(error);
        assert.equal(rawMessage, `container ${id} is not running: its start waits: the machine is full`);
        return code === Code.AlreadyExists;
      });
      bench.machine.room?.resolve();
      await started;
    });
  }

  it("is not followed by the restart of a client that has left", async () => {
    const id = await bench.createScript("exec sleep 1000");
    const { started } = await waiting(id);
    const leave = new AbortController();
    const restarted = bench.containers.restartContainer({ container: id }, { signal: leave.signal });
    restarted.catch(() => undefined);
    await bench.system.getCapabilities({});
    leave.abort();
    await bench.system.getCapabilities({});
    bench.machine.room?.resolve();
    await started;
    await assert.rejects(restarted);
    await bench.engine.context.live.of(id).lock.run(() => Promise.resolve());
    assert.equal(bench.state.containers.get(id)?.generation, 1n);
    assert.deepEqual(await bench.eventNames({ event: ["kill"] }), []);
  });

  it("is not pruned or removed without force, nor given up for a signal that would not end its process", async () => {
    const id = await bench.createScript("exec sleep 1000");
    const idle = await bench.createScript("true");
    const { started } = await waiting(id);
    assert.deepEqual((await bench.containers.pruneContainers({})).removed, [idle]);
    await assert.rejects(
      bench.containers.removeContainer({ container: id }),
      /its start waits for room: stop the container before removing or force remove$/,
    );
    const signalled = bench.containers.killContainer({ container: id, signal: "SIGWINCH" });
    bench.machine.room?.resolve();
    await Promise.all([started, signalled]);
    assert.equal(stateOf(id)?.status, ContainerStatus.RUNNING);
  });

  it("is given up by a stop where a policy has asked for it", async () => {
    const id = await bench.runScript("exit 6", { hostConfig: { restartPolicy: { name: "always" } } });
    bench.machine.room = Promise.withResolvers();
    await untilTrue(() => stateOf(id)?.error === "waits to be started: the machine is full");
    assert.equal(stateOf(id)?.status, ContainerStatus.RESTARTING);
    const ended = bench.wait(id, WaitCondition.NOT_RUNNING);
    await bench.containers.stopContainer({ container: id });
    await ended;
    assert.equal(stateOf(id)?.status, ContainerStatus.EXITED);
    assert.ok(bench.state.containers.get(id)?.stoppedByUser);
  });
});
