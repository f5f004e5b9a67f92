import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { stopContainer } from "../../../src/backends/engine/containers/run/stop-container.ts";
import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { ContainerStatus, WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("while a container starts", () => {
  const bench = EngineBench.ofEach();

  const statusOf = (id: string) => bench.state.containers.get(id)?.state?.status;

  /** A container whose start has come to its launch, and what lets that go on. */
  const starting = async (script = "exec sleep 1000", name = "") => {
    const id = await bench.createScript(script, { name });
    bench.machine.busyLaunches = Promise.withResolvers();
    const launches = bench.machine.calls.filter((call) => call === "launch").length;
    const started = bench.containers.startContainer({ container: id });
    started.catch(() => undefined);
    const launched = () => bench.machine.calls.filter((call) => call === "launch").length > launches;
    await untilTrue(launched);
    return { id, started };
  };
  const goOn = (): void => bench.machine.busyLaunches?.resolve();
  const fail = (): void => bench.machine.busyLaunches?.reject(new Error("no room"));
  /** Asks while the start is under way, and lets that go on once the question has reached the backend and waits. */
  const during = async <T>(ask: () => Promise<T>, end: () => void = goOn): Promise<T> => {
    let isAnswered = false;
    const answer = ask().finally(() => {
      isAnswered = true;
    });
    answer.catch(() => undefined);
    await bench.system.getCapabilities({}); // The calls of one client reach the backend in order.
    await bench.system.getCapabilities({}); // An answer that waits for nothing has come by now.
    assert.equal(isAnswered, false, "the start was not waited for");
    end();
    return await answer;
  };

  it("it is not removed without force", async () => {
    const { id, started } = await starting("exec sleep 1000", "slow");
    await assert.rejects(
      during(() => bench.containers.removeContainer({ container: "slow" })),
      (error) =>
        isErrorKind(error, "conflict") &&
        messageOf(error) ===
          'cannot remove container "slow": container is running: stop the container before removing or force remove',
    );
    await started;
    assert.equal(statusOf(id), ContainerStatus.RUNNING);
  });

  it("it is removed by force once it runs", async () => {
    const { id, started } = await starting();
    await during(() => bench.containers.removeContainer({ container: id, force: true }));
    await started;
    await untilTrue(() => !bench.state.containers.has(id) && !bench.machine.workloads.has(id));
  });

  it("a prune leaves it alone, and does not wait for it", async () => {
    const { id, started } = await starting();
    const { removed } = await bench.containers.pruneContainers({});
    assert.deepEqual(removed, []);
    goOn();
    await started;
    assert.equal(statusOf(id), ContainerStatus.RUNNING);
  });

  it("a stop stops it once it runs", async () => {
    const { id, started } = await starting();
    await during(() => bench.containers.stopContainer({ container: id }));
    await started;
    assert.equal(statusOf(id), ContainerStatus.EXITED);
    assert.equal(bench.state.containers.get(id)?.stoppedByUser, true);
  });

  it("a stop whose client has left stops it, though another comes with a signal that there is none", async () => {
    const { id, started } = await starting();
    const [client, other] = [new AbortController(), new AbortController()];
    const { context } = bench.engine;
    const stopped = stopContainer(context, id, { signal: "" }, client.signal);
    const refused = stopContainer(context, id, { signal: "SIGNOPE", timeoutSeconds: 0 }, other.signal);
    client.abort();
    other.abort();
    goOn();
    await assert.rejects(refused, (error) => isErrorKind(error, "invalid"));
    await Promise.all([started, stopped]);
    assert.equal(statusOf(id), ContainerStatus.EXITED);
    await assert.rejects(stopContainer(context, id, { signal: "SIGNOPE" }, client.signal), (error) =>
      isErrorKind(error, "not-modified"),
    );
  });

  it("a stop has nothing to do where the start fails", async () => {
    const { id } = await starting();
    await assert.rejects(
      during(() => bench.containers.stopContainer({ container: id }), fail),
      (error) => isErrorKind(error, "not-modified"),
    );
    assert.equal(statusOf(id), ContainerStatus.CREATED);
  });

  it("a kill kills it once it runs, and is answered once it has ended", async () => {
    const { id, started } = await starting();
    await during(() => bench.containers.killContainer({ container: id }));
    await started;
    assert.equal(statusOf(id), ContainerStatus.EXITED);
    assert.equal(bench.state.containers.get(id)?.state?.exitCode, 137);
  });

  it("a kill that comes while it waits to be started is answered once it has ended", async () => {
    const id = await bench.createScript("exec sleep 1000");
    const { lock } = bench.engine.context.live.of(id);
    const beforeStart = Promise.withResolvers<void>();
    const beforeExit = Promise.withResolvers<void>();
    void lock.run(() => beforeStart.promise);
    const started = bench.containers.startContainer({ container: id });
    const killed = bench.containers.killContainer({ container: id }).then(() => statusOf(id));
    await bench.system.getCapabilities({});
    void lock.run(() => beforeExit.promise);
    beforeStart.resolve();
    await started;
    await untilTrue(() => bench.machine.agentOf(id).exit !== undefined);
    beforeExit.resolve();
    assert.equal(await killed, ContainerStatus.EXITED);
  });

  it("a restart stops it once it runs, and starts it again", async () => {
    const { id, started } = await starting();
    await during(() => bench.containers.restartContainer({ container: id }));
    await started;
    assert.equal(statusOf(id), ContainerStatus.RUNNING);
    assert.equal(bench.state.containers.get(id)?.generation, 2n);
  });

  it("a pause pauses it once it runs", async () => {
    const { id } = await starting();
    await during(() => bench.containers.pauseContainer({ container: id }));
    assert.equal(statusOf(id), ContainerStatus.PAUSED);
  });

  it("a wait waits for its end", async () => {
    const { id } = await starting("sleep 0.2; exit 7");
    assert.equal(await during(() => bench.wait(id, WaitCondition.NOT_RUNNING)), 7);
  });

  it("a wait is over with its start where that fails", async () => {
    const { id } = await starting("exec /does/not/exist");
    assert.equal(await during(() => bench.wait(id, WaitCondition.NOT_RUNNING), fail), 128);
  });

  it("an exec is made once it runs", async () => {
    const { id } = await starting();
    await during(() => bench.execs.createExec({ container: id, config: { cmd: ["true"] } }));
  });

  it("its agent is asked for its processes once it runs", async () => {
    const { id } = await starting();
    const listed = during(() => bench.containers.topContainer({ container: id }));
    await assert.rejects(listed, (error) => isErrorKind(error, "not-implemented")); // This agent lists none.
  });

  it("its terminal is resized once it runs", async () => {
    const { id } = await starting();
    await during(() => bench.containers.resizeContainer({ container: id, height: 20, width: 30 }));
  });

  it("who inspects it sees what came of the start", async () => {
    const { id } = await starting();
    const inspected = await during(() =>
      bench.containers.inspectContainer({ container: id, afterStart: true }),
    );
    assert.equal(inspected.container?.state?.status, ContainerStatus.RUNNING);
  });

  it("who inspects it sees why the start failed", async () => {
    const { id } = await starting();
    const inspect = () => bench.containers.inspectContainer({ container: id, afterStart: true });
    const state = (await during(inspect, fail)).container?.state;
    assert.deepEqual([state?.status, state?.exitCode], [ContainerStatus.CREATED, 128]);
  });

  it("an inspect that is not to wait has no container while it starts, and the wait for its start ends with it", async () => {
    const { id } = await starting();
    const inspect = () => bench.containers.inspectContainer({ container: id, unlessStarting: true });
    assert.equal((await inspect()).container, undefined);
    await during(() => bench.containers.awaitStart({ container: id }));
    assert.equal((await inspect()).container?.state?.status, ContainerStatus.RUNNING);
  });

  it("a list shows it as it was, as does who only looks", async () => {
    const { id, started } = await starting();
    const { containers } = await bench.containers.listContainers({ all: true });
    const inspected = await bench.containers.inspectContainer({ container: id });
    assert.deepEqual(
      [containers.find((each) => each.id === id)?.state?.status, inspected.container?.state?.status],
      [ContainerStatus.CREATED, ContainerStatus.CREATED],
    );
    goOn();
    await started;
  });

  it("who inspects it does not wait where starts last minutes", async () => {
    const { id, started } = await starting();
    const live = bench.engine.context.live.of(id);
    assert.ok(live.run.start !== undefined);
    live.run.start.waitsFor = "room on the platform";
    const { container } = await bench.containers.inspectContainer({ container: id, afterStart: true });
    assert.equal(container?.state?.status, ContainerStatus.CREATED);
    live.run.start.waitsFor = "";
    goOn();
    await started;
  });

  it("an update and another name are for when it runs", async () => {
    const { id, started } = await starting();
    await during(() =>
      Promise.all([
        bench.containers.renameContainer({ container: id, name: "other" }),
        bench.containers.updateContainer({ container: id, restartPolicy: { name: "always" } }),
      ]),
    );
    await started;
    const record = bench.state.containers.get(id);
    assert.deepEqual(
      [record?.name, record?.hostConfig?.restartPolicy?.name, record?.state?.status],
      ["other", "always", ContainerStatus.RUNNING],
    );
  });

  /** Has a client ask for changes and leave while they wait; another one's change comes after them. */
  const askAndLeave = async (
    id: string,
    ask: (client: AbortController) => Promise<unknown>[],
    end: () => void,
  ) => {
    const client = new AbortController();
    const changes = Promise.allSettled(ask(client));
    const answered = bench.containers.renameContainer({ container: id, name: "last" });
    await setTimeout(200); // The requests have reached the backend.
    client.abort();
    assert.deepEqual(new Set((await changes).map(({ status }) => status)), new Set(["rejected"]));
    await setTimeout(200);
    end();
    await answered;
  };

  it("no change waits for it whose client has left", async () => {
    await bench.networks.createNetwork({ name: "other" });
    const { id, started } = await starting();
    const { containers, networks } = bench;
    const ask = (client: AbortController) => [
      containers.renameContainer({ container: id, name: "other" }, client),
      containers.updateContainer({ container: id, restartPolicy: { name: "always" } }, client),
      containers.pauseContainer({ container: id }, client),
      containers.unpauseContainer({ container: id }, client),
      containers.killContainer({ container: id, signal: "USR1" }, client),
      networks.connectNetwork({ network: "other", container: id }, client),
    ];
    await askAndLeave(id, ask, goOn);
    await started;
    const actions = (await bench.pastEvents({ container: [id] })).map(({ action }) => action);
    assert.deepEqual(
      actions.filter((action) => !["create", "start"].includes(action)),
      ["rename"],
    );
    assert.deepEqual(Object.keys(bench.state.containers.get(id)?.endpoints ?? {}), ["bridge"]);
  });

  it("no start and no removal waits for its failure whose client has left", async () => {
    const { id, started } = await starting();
    const launches = bench.machine.calls.filter((call) => call === "launch").length;
    const ask = (client: AbortController) => [
      bench.containers.startContainer({ container: id, clientToken: "another" }, client),
      bench.containers.removeContainer({ container: id }, client),
    ];
    await askAndLeave(id, ask, fail);
    await assert.rejects(started);
    assert.equal(bench.machine.calls.filter((call) => call === "launch").length, launches);
    assert.ok(bench.state.containers.has(id));
  });

  it("its network is not removed", async () => {
    await bench.networks.createNetwork({ name: "own" });
    const id = await bench.createScript("exec sleep 1000", { hostConfig: { networkMode: "own" } });
    bench.machine.busyLaunches = Promise.withResolvers();
    const started = bench.containers.startContainer({ container: id });
    await untilTrue(() => bench.machine.calls.includes("launch"));
    await assert.rejects(bench.networks.removeNetwork({ network: "own" }), (error) =>
      isErrorKind(error, "forbidden"),
    );
    goOn();
    await started;
  });
});
