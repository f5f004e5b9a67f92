import assert from "node:assert/strict";
import { constants } from "node:os";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { frozenBy } from "../../../src/backends/engine/containers/decisions/life/transitions.ts";
import { onAbort } from "../../../src/common/on-abort.ts";
import { ContainerStateSchema, OutOfMemorySchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { until, untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a backend that died during a commit", () => {
  for (let commits = 0; commits < 4; commits++) {
    it(`is followed by one that lets the container go on: after ${commits} writes`, async () => {
      await using bench = await EngineBench.start();
      const id = await bench.runScript("exec sleep 1000");
      await bench.stopBackend();
      const crashed = Promise.withResolvers<void>();
      await bench.startBackend({ commits, reached: crashed.resolve });
      const commit = bench.containers.commitContainer({ container: id, pause: true, reference: "" });
      commit.catch(() => undefined);
      await crashed.promise;
      await bench.crashBackend();
      await bench.startBackend();
      const known = (): ContainerRecord | undefined => bench.state.containers.get(id);
      await until(() => (known()?.frozenGeneration === 0n ? true : undefined));
      assert.equal(known()?.state?.status, ContainerStatus.RUNNING);
      assert.equal(bench.machine.agentOf(id).paused, false);
    });
  }

  it("is followed by one that lets the container go on: while the image was made", async () => {
    await using bench = await EngineBench.start();
    const id = await bench.runScript("exec sleep 1000");
    await bench.containers.pauseContainer({ container: id });
    const record = bench.state.containers.get(id);
    assert.ok(record !== undefined);
    await bench.state.commit((change) => change.containers.put(frozenBy(record, "commit")));
    await bench.stopBackend();
    await bench.startBackend();
    await until(() => (bench.machine.agentOf(id).paused ? undefined : true));
    await until(() =>
      bench.state.containers.get(id)?.state?.status === ContainerStatus.RUNNING ? true : undefined,
    );
  });

  it("is followed by one that leaves paused what a user paused", async () => {
    await using bench = await EngineBench.start();
    const id = await bench.runScript("exec sleep 1000");
    await bench.containers.pauseContainer({ container: id });
    await bench.stopBackend();
    await bench.startBackend();
    await bench.engine.context.live.of(id).lock.run(() => Promise.resolve());
    assert.equal(bench.state.containers.get(id)?.state?.status, ContainerStatus.PAUSED);
    assert.equal(bench.machine.agentOf(id).paused, true);
  });
});

describe("a backend that ends during a commit", () => {
  const bench = EngineBench.ofEach();

  for (const moment of ["its pause", "the making of its image"]) {
    it(`lets the container go on: ${moment}`, async (context) => {
      const id = await bench.runScript("exec sleep 1000");
      const agent = bench.machine.agentOf(id);
      const [answer, made] = [Promise.withResolvers<void>(), Promise.withResolvers<never>()];
      const commit = context.mock.method(bench.engine.context.images, "commit", () => made.promise);
      if (moment === "its pause") {
        agent.heldAnswers.set("pause", answer.promise);
      }
      const committed = assert.rejects(
        bench.containers.commitContainer({ container: id, pause: true, reference: "" }),
      );
      await untilTrue(() => agent.paused && (moment === "its pause" || commit.mock.callCount() > 0));
      const ended = bench.engine.close();
      answer.resolve();
      await ended;
      const { state, frozenGeneration } = bench.state.containers.get(id) ?? {};
      assert.deepEqual([agent.paused, state?.status, frozenGeneration], [false, ContainerStatus.RUNNING, 0n]);
      made.reject(new Error("no image is made"));
      await committed;
    });
  }

  it("waits for no agent that does not answer", { timeout: 9_000 }, async () => {
    const id = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(id);
    const answer = Promise.withResolvers<void>();
    agent.heldAnswers.set("pause", answer.promise);
    const committed = assert.rejects(
      bench.containers.commitContainer({ container: id, pause: true, reference: "" }),
    );
    await untilTrue(() => agent.paused);
    await bench.engine.close();
    answer.resolve();
    await committed;
  });
});

describe("a container whose agent answers too late", () => {
  const bench = EngineBench.ofEach();

  const isThawed = (id: string): boolean => {
    const { state, frozenGeneration } = bench.state.containers.get(id) ?? {};
    const isRunning = state?.status === ContainerStatus.RUNNING && frozenGeneration === 0n;
    return isRunning && !bench.machine.agentOf(id).paused;
  };

  it("goes on where a pause has failed, but not if it was paused since", async (context) => {
    const id = await bench.runScript("exec sleep 1000");
    const background = context.mock.method(bench.engine.context.background, "run");
    const agent = bench.machine.agentOf(id);
    agent.failures.add("pauseAnswer");
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /too late/);
    await untilTrue(() => isThawed(id));
    agent.failures.add("pauseAnswer").add("resume");
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /too late/);
    agent.failures.add("pauseAnswer");
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /too late/);
    await bench.containers.pauseContainer({ container: id });
    const thaws = background.mock.calls.filter(({ arguments: [what] }) => what === `thaw container ${id}`);
    assert.equal(thaws.length, 3);
    await Promise.all(thaws.map(({ result }) => result));
    assert.equal(agent.paused, true);
  });

  it("goes on where a pause has failed while a thaw makes a long pause", async (context) => {
    const id = await bench.runScript("exec sleep 1000");
    const sleeping = context.mock.method(
      bench.engine.context.clock,
      "sleep",
      (_ms: number, signal?: AbortSignal) =>
        new Promise<void>((_resolve, reject) => onAbort(signal, () => reject(signal?.reason))),
    );
    const { failures } = bench.machine.agentOf(id);
    failures.add("pauseAnswer").add("resume");
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /too late/);
    await untilTrue(() => sleeping.mock.callCount() > 0);
    assert.equal(isThawed(id), false);
    failures.add("pauseAnswer");
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /too late/);
    await untilTrue(() => isThawed(id));
    sleeping.mock.restore(); // The first thaw's pause goes on, and no other waits for its end.
    failures.add("pauseAnswer").add("resume");
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /too late/);
    await untilTrue(() => isThawed(id));
  });

  for (const failing of ["pauseAnswer", "resume"] as const) {
    it(`goes on after a commit: ${failing}`, async (context) => {
      const id = await bench.runScript("exec sleep 1000");
      context.mock.method(bench.engine.context.images, "commit", () => Promise.reject(new Error("no image")));
      bench.machine.agentOf(id).failures.add(failing);
      await assert.rejects(
        bench.containers.commitContainer({ container: id, pause: true, reference: "" }),
        /no image/,
      );
      await untilTrue(() => isThawed(id));
    });
  }
});

describe("a container that ends during a commit", () => {
  it("is nothing to warn of", async (context) => {
    await using bench = await EngineBench.start();
    const id = await bench.runScript("exec sleep 1000");
    const { images, logger } = bench.engine.context;
    const logged: unknown[] = [];
    context.mock.method(logger, "warn", (_values: unknown, text: unknown) => {
      logged.push(text);
    });
    context.mock.method(images, "commit", async () => {
      await bench.containers.killContainer({ container: id });
      await untilTrue(() => bench.state.containers.get(id)?.state?.status === ContainerStatus.EXITED);
      throw new Error("no image is made");
    });
    await assert.rejects(
      bench.containers.commitContainer({ container: id, pause: true, reference: "" }),
      /no image is made/,
    );
    assert.deepEqual(logged, []);
  });
});

describe("a backend that ended between a container's freezing and its record", () => {
  const bench = EngineBench.ofEach();

  const statusBecomes = (id: string, status: ContainerStatus) =>
    until(() => (bench.state.containers.get(id)?.state?.status === status ? true : undefined));

  it("is followed by one that knows what the agent says", async () => {
    const id = await bench.runScript("exec sleep 1000");
    await bench.stopBackend();
    bench.machine.agentOf(id).paused = true;
    await bench.startBackend();
    await statusBecomes(id, ContainerStatus.PAUSED);
    await bench.stopBackend();
    bench.machine.agentOf(id).paused = false;
    await bench.startBackend();
    await statusBecomes(id, ContainerStatus.RUNNING);
    const told = (await bench.eventNames({ type: ["container"] })).slice(-2);
    assert.deepEqual(told, ["container pause", "container unpause"]);
  });

  it("does not undo what a user has asked for since", async () => {
    const id = await bench.runScript("exec sleep 1000");
    await bench.containers.pauseContainer({ container: id });
    assert.equal(bench.machine.agentOf(id).paused, true);
    const agent = bench.machine.agentOf(id);
    agent.tell({ case: "state", value: create(ContainerStateSchema, { paused: false }) });
    agent.tell({ case: "oom", value: create(OutOfMemorySchema) });
    await until(() => (bench.state.containers.get(id)?.state?.oomKilled === true ? true : undefined));
    assert.equal(bench.state.containers.get(id)?.state?.status, ContainerStatus.PAUSED);
  });
});

describe("a container that wanted for memory while nobody listened", () => {
  it("has the event once", async () => {
    await using bench = await EngineBench.start();
    const id = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(id);
    for (const _ of [1, 2]) {
      agent.tell({ case: "state", value: create(ContainerStateSchema, { outOfMemory: true }) });
    }
    agent.tell({ case: "state", value: create(ContainerStateSchema, { paused: true }) }); // Told last, so that all are read.
    await until(() =>
      bench.state.containers.get(id)?.state?.status === ContainerStatus.PAUSED ? true : undefined,
    );
    assert.equal(bench.state.containers.get(id)?.state?.oomKilled, true);
    assert.equal((await bench.eventNames({ event: ["oom"] })).length, 1);
  });
});

describe("a container that is paused while a stop is under way", () => {
  it("is thawed, also where its agent had frozen it and nobody had recorded that", async () => {
    await using bench = await EngineBench.start();
    const id = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(id);
    const answers = { pause: Promise.withResolvers<void>(), signal: Promise.withResolvers<void>() };
    agent.heldAnswers.set("pause", answers.pause.promise).set("signal", answers.signal.promise);
    const stopped = bench.containers.stopContainer({
      container: id,
      timeoutSeconds: -1,
      signal: "SIGCONT",
    });
    stopped.catch(() => undefined);
    await untilTrue(() => agent.calls.includes(`signal ${constants.signals.SIGCONT}`));
    const paused = bench.containers.pauseContainer({ container: id });
    paused.catch(() => undefined);
    await untilTrue(() => agent.paused);
    answers.signal.resolve();
    answers.pause.resolve();
    await paused;
    await untilTrue(() => !agent.paused);
    await bench.containers.killContainer({ container: id });
    await stopped;
  });
});
