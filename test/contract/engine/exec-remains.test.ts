import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { isErrorKind } from "../../../src/common/errors.ts";
import { ManualClock } from "../../../src/common/manual-clock.ts";
import { ExecEndedSchema, ExecStartedSchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { ExecPhase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { until, untilTrue } from "../../support/until.ts";
import { EngineBench, localAccess } from "../engine-bench.ts";
import { inSoak } from "../../support/soak.ts";

const sweepEveryMs = 5 * 60_000;

describe("execs that nobody comes for", () => {
  let clock: ManualClock;
  const bench = EngineBench.ofEach(() => {
    clock = new ManualClock(Date.now());
    return { clock };
  });

  const makeExec = async (container: string, ...cmd: string[]) =>
    (await bench.execs.createExec({ container, config: { cmd } })).id;
  const phaseOf = (execId: string) => bench.state.execs.get(execId)?.phase;

  it("have ended with 255 when their session does not come, and then it is too late for it", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const mark = join(bench.machine.directory, "mark");
    const execId = await makeExec(container, "touch", mark);
    const { endpoint, config } = await bench.execs.startExec({ execId, access: localAccess });
    const end = bench.execs.awaitExec({ execId });
    const sleeping = clock.sleeping;
    await clock.advance(29_000);
    assert.equal(phaseOf(execId), ExecPhase.STARTING);
    assert.equal(clock.sleeping, sleeping);
    await clock.advance(1_000);
    assert.equal((await end).exitCode, 255);
    const late = bench.session(endpoint, { openExec: { execId, process: { args: config?.cmd ?? [] } } });
    await assert.rejects(late, /opened before/);
    assert.equal(existsSync(mark), false);
  });

  it("are on record while their agent still hears of the first of them", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(container);
    const execs: string[] = [];
    for (let n = 0; n < 3; n++) {
      const execId = await makeExec(container, "true");
      await bench.execs.startExec({ execId, access: localAccess });
      execs.push(execId);
    }
    agent.owesAcknowledgements = true;
    const heard = Promise.withResolvers<void>();
    agent.heldAnswers.set("acknowledge", heard.promise);
    for (const execId of execs) {
      agent.tell({ case: "execStarted", value: create(ExecStartedSchema, { execId, pid: 1n }) });
      agent.tell({ case: "execEnded", value: create(ExecEndedSchema, { execId, exit: { code: 3 } }) });
    }
    await untilTrue(() => execs.every((execId) => phaseOf(execId) === ExecPhase.ENDED));
    assert.ok(agent.acknowledged.length <= 1, `${agent.acknowledged.length} were made`);
    heard.resolve();
    const last = 2n * BigInt(execs.length);
    await untilTrue(() => agent.acknowledged.at(-1) === last);
  });

  it("are asked for again while their agent cannot be reached", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const execId = await makeExec(container, "true");
    const { endpoint, config } = await bench.execs.startExec({ execId, access: localAccess });
    const agent = bench.machine.agentOf(container);
    agent.failures.add("execInspect");
    await clock.advance(30_000);
    await until(() => agent.calls.includes("execInspect fails") || undefined);
    assert.equal(phaseOf(execId), ExecPhase.STARTING);
    agent.failures.clear();
    const session = await bench.session(endpoint, {
      openExec: { execId, process: { args: config?.cmd ?? [] } },
    });
    assert.equal(session.exitCode, 0);
    assert.equal((await bench.execs.awaitExec({ execId })).exitCode, 0);
  });

  it("are asked for once by many who look at them", { timeout: 30_000 }, async (context) => {
    const container = await bench.runScript("exec sleep 1000");
    const config = { cmd: ["true"], attachStdout: true };
    const { id: execId } = await bench.execs.createExec({ container, config });
    await bench.execs.startExec({ execId, access: localAccess });
    const client = bench.engine.context.live.peek(container)?.link?.agent.client;
    assert.ok(client !== undefined);
    const asked = context.mock.method(client, "execInspect");
    const looks = Promise.all(Array.from({ length: 50 }, () => bench.execs.inspectExec({ execId })));
    await setTimeout(300);
    const count = asked.mock.callCount();
    assert.ok(count >= 1 && count <= 5, `${count} calls`);
    await clock.advance(5_000);
    await setTimeout(100);
    await clock.advance(1_000);
    assert.deepEqual(new Set((await looks).map(({ exitCode }) => exitCode)), new Set([255]));
  });

  it("are not asked for by those that resize them before their start", {
    timeout: 30_000,
  }, async (context) => {
    const container = await bench.runScript("exec sleep 1000");
    const execId = await makeExec(container, "true");
    const client = bench.engine.context.live.peek(container)?.link?.agent.client;
    assert.ok(client !== undefined);
    const asked = context.mock.method(client, "resize");
    const sleeping = clock.sleeping;
    const [leaving, staying] = [new AbortController(), new AbortController()];
    const resizes = [leaving, staying].map(({ signal }) =>
      Array.from({ length: 50 }, () => bench.execs.resizeExec({ execId, height: 1, width: 1 }, { signal })),
    );
    await untilTrue(() => clock.sleeping === sleeping + 100);
    await clock.advance(1_000);
    await setTimeout(100);
    assert.equal(asked.mock.callCount(), 0);
    leaving.abort();
    assert.ok((await Promise.allSettled(resizes[0] ?? [])).every(({ status }) => status === "rejected"));
    await untilTrue(() => clock.sleeping === sleeping + 50);
    const { endpoint } = await bench.execs.startExec({ execId, access: localAccess });
    const session = bench.session(endpoint, { openExec: { execId, process: { args: ["sleep", "1"] } } });
    await Promise.all(resizes[1] ?? []);
    assert.ok(asked.mock.callCount() <= 200, `${asked.mock.callCount()} calls`);
    await session;
  });

  it("are not made once their client has left, for which their agent's answer is not awaited", {
    timeout: 30_000,
  }, async (context) => {
    const container = await bench.runScript("exec sleep 1000");
    const client = bench.engine.context.live.peek(container)?.link?.agent.client;
    assert.ok(client !== undefined);
    const over = Promise.withResolvers<never>();
    const { mock: asked } = context.mock.method(client, "lookUpUser", () => over.promise);
    const leaving = new AbortController();
    const made = bench.execs.createExec({ container, config: { cmd: ["true"], user: "me" } }, leaving);
    made.catch(() => undefined);
    const call = await until(() => asked.calls[0]);
    leaving.abort();
    try {
      await untilTrue(() => call.arguments[1]?.signal?.aborted === true);
    } finally {
      over.reject(new Error("canceled"));
    }
    await assert.rejects(made);
    await setTimeout(100);
    assert.equal(bench.state.execs.size, 0);
  });

  it("are not looked at for what happens to other containers", async (context) => {
    const others = await makeExec(await bench.runScript("exec sleep 1000"), "true");
    const { mock: all } = context.mock.method(bench.state.execs, "values");
    const container = await bench.runScript("exec sleep 1000");
    const [created, started] = [await makeExec(container, "true"), await makeExec(container, "true")];
    await bench.execs.startExec({ execId: started, access: localAccess });
    const { container: shown } = await bench.containers.inspectContainer({ container });
    assert.deepEqual(shown?.execIds, [created, started]);
    await bench.containers.killContainer({ container });
    await bench.wait(container);
    assert.deepEqual([phaseOf(created), phaseOf(started)], [ExecPhase.CREATED, ExecPhase.ENDED]);
    await bench.containers.startContainer({ container });
    assert.deepEqual([phaseOf(created), phaseOf(started)], [undefined, undefined]);
    const last = await makeExec(container, "true");
    await bench.containers.stopContainer({ container, timeoutSeconds: 0 });
    await clock.advance(sweepEveryMs);
    await untilTrue(() => phaseOf(last) === undefined);
    await bench.containers.removeContainer({ container });
    assert.equal(phaseOf(others), ExecPhase.CREATED);
    assert.equal(all.callCount(), 0);
  });

  it("are forgotten when they were never started and cannot be any more", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const [over, started] = [await makeExec(container, "true"), await makeExec(container, "true")];
    const { endpoint } = await bench.execs.startExec({ execId: started, access: localAccess });
    await bench.session(endpoint, { openExec: { execId: started, process: { args: ["true"] } } });
    await bench.execs.awaitExec({ execId: started });
    await clock.advance(sweepEveryMs);
    assert.equal(phaseOf(over), ExecPhase.CREATED, "its container runs");
    const stopped = bench.containers.killContainer({ container });
    await stopped;
    await bench.wait(container);
    await clock.advance(sweepEveryMs);
    await untilTrue(() => phaseOf(over) === undefined);
    await assert.rejects(bench.execs.inspectExec({ execId: over }), (error) =>
      isErrorKind(error, "not-found"),
    );
    assert.equal(phaseOf(started), ExecPhase.ENDED, "its exit code is kept");
  });

  it("are those that have ended first, where there are too many", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(container);
    const start = async (): Promise<string> => {
      const execId = await makeExec(container, "true");
      await bench.execs.startExec({ execId, access: localAccess });
      return execId;
    };
    const long = await start();
    const others: string[] = [];
    while (others.length < 319) {
      others.push(await start());
    }
    for (const execId of [...others, long]) {
      agent.tell({ case: "execEnded", value: create(ExecEndedSchema, { execId, exit: { code: 3 } }) });
    }
    await untilTrue(() => [...others, long].every((execId) => phaseOf(execId) === ExecPhase.ENDED));
    await start();
    assert.equal(
      others.findIndex((execId) => phaseOf(execId) !== undefined),
      64,
    );
    assert.equal((await bench.execs.inspectExec({ execId: long })).exitCode, 3, "its client asks now");
  });

  it("are so many of one container that never started, and no more", inSoak, async () => {
    const container = await bench.runScript("exec sleep 1000");
    const first = await makeExec(container, "true");
    for (let count = 0; count < 1100; count++) {
      await makeExec(container, "true");
    }
    assert.equal(bench.state.execs.size, 1037, "64 are forgotten at once");
    assert.equal(phaseOf(first), undefined);
  });

  /** Creates execs whose commands have a number of characters. */
  const makeLong = async (container: string, count: number, length: number): Promise<string[]> => {
    const execs: string[] = [];
    while (execs.length < count) {
      execs.push(await makeExec(container, "true", "x".repeat(length)));
    }
    return execs;
  };
  const mebibytes = (container: string): number => bench.state.execs.idleWeight(container) / 2 ** 20;

  for (const length of [2 ** 20, 2 ** 16]) {
    it(`are so many of one container as have 16 MiB together, of ${length} characters each`, async () => {
      const container = await bench.runScript("exec sleep 1000");
      const first = await makeExec(container, "true");
      const execs = await makeLong(container, (20 * 2 ** 20) / length, length);
      assert.equal(phaseOf(first), undefined);
      assert.ok(mebibytes(container) > 14 && mebibytes(container) <= 16, `${mebibytes(container)}`);
      assert.equal(phaseOf(execs.at(-1) ?? ""), ExecPhase.CREATED);
    });
  }

  it("are forgotten where they weigh most once those of all containers have 64 MiB", async () => {
    const small = await bench.runScript("exec sleep 1000");
    const first = await makeExec(small, "true");
    const large: string[] = [];
    while (large.length < 6) {
      large.push(await bench.runScript("exec sleep 1000"));
    }
    for (const container of large) {
      await makeLong(container, 15, 2 ** 20);
    }
    const total = [small, ...large].reduce((sum, each) => sum + mebibytes(each), 0);
    assert.ok(total > 50 && total <= 65, `${total}`);
    assert.equal(phaseOf(first), ExecPhase.CREATED);
  });

  it("cannot be made while those that start or run have more than 16 MiB", async () => {
    const container = await bench.runScript("exec sleep 1000");
    for (let count = 0; count < 16; count++) {
      const [execId = ""] = await makeLong(container, 1, 2 ** 20);
      await bench.execs.startExec({ execId, access: localAccess });
    }
    await assert.rejects(makeExec(container, "true"), /at most 16 MiB while they run/);
    await makeExec(await bench.runScript("exec sleep 1000"), "true");
  });
});
