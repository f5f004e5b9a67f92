import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import { WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a wait that outlives its backend", () => {
  const bench = EngineBench.ofEach();

  /** A wait that was accepted: the moment of which it tells, and its exit code; undefined if it is cut. */
  async function begun(container: string, condition: WaitCondition) {
    const waiting = bench.containers.waitContainer({ container, condition })[Symbol.asyncIterator]();
    const { value } = await waiting.next();
    assert.ok(value?.message.case === "accepted");
    assert.equal(value.message.value.id, container);
    const end = waiting.next().then(
      ({ value: told }) =>
        told?.message.case === "exited" ? Number(told.message.value.exitCode) : undefined,
      () => undefined,
    );
    return { since: value.message.value.sinceUnixNs, end };
  }

  /** A wait that was accepted, and is cut with its backend: the moment of which it tells. */
  async function accepted(container: string, condition: WaitCondition): Promise<bigint> {
    return (await begun(container, condition)).since;
  }

  /** Goes on with a wait at whichever backend there is. @returns what it is told */
  async function endOf(container: string, condition: WaitCondition, sinceUnixNs?: bigint) {
    for await (const { message } of bench.containers.waitContainer({
      ...{ container, condition },
      ...(sinceUnixNs !== undefined && { sinceUnixNs }),
    })) {
      if (message.case === "exited") {
        return { code: Number(message.value.exitCode), error: message.value.error };
      }
    }
    return assert.fail("the wait was cut");
  }

  /** The same. @returns the exit code */
  async function goOn(container: string, condition: WaitCondition, sinceUnixNs: bigint) {
    return (await endOf(container, condition, sinceUnixNs)).code;
  }

  async function crash(): Promise<void> {
    await bench.crashBackend();
    await bench.startBackend();
  }

  const isRunning = (id: string) => bench.state.containers.get(id)?.state?.pid !== 0n;

  for (const condition of [WaitCondition.NOT_RUNNING, WaitCondition.NEXT_EXIT]) {
    it(`ends with the exit that came meanwhile, though it was started again (${WaitCondition[condition]})`, async () => {
      const id = await bench.runScript("sleep 60");
      const since = await accepted(id, condition);
      await bench.containers.killContainer({ container: id, signal: "KILL" });
      await untilTrue(() => !isRunning(id));
      await bench.containers.startContainer({ container: id });
      await crash();
      assert.equal(await goOn(id, condition, since), 137);
      await bench.containers.removeContainer({ container: id, force: true });
      assert.equal(await goOn(id, condition, since), 137);
    });

    it(`goes on until the exit that comes later (${WaitCondition[condition]})`, async () => {
      const id = await bench.runScript("sleep 60");
      const since = await accepted(id, condition);
      await crash();
      const waiting = goOn(id, condition, since);
      await bench.containers.killContainer({ container: id, signal: "KILL" });
      assert.equal(await waiting, 137);
    });
  }

  it("is not ended by an exit that came before it", async () => {
    const id = await bench.runScript("exit 3");
    await bench.wait(id);
    const since = await accepted(id, WaitCondition.NEXT_EXIT);
    await crash();
    const waiting = goOn(id, WaitCondition.NEXT_EXIT, since);
    await bench.containers.startContainer({ container: id });
    assert.equal(await waiting, 3);
    assert.equal(bench.state.containers.get(id)?.generation, 2n);
  });

  it("is not ended by an exit that was recorded before it, though others are still to be told", async () => {
    const id = await bench.runScript("exec sleep 60");
    const written = Promise.withResolvers<void>();
    const { state } = bench;
    const commit = state.commit.bind(state);
    state.commit = async (describe, kind) => {
      await commit(describe, kind);
      await (kind === "happened" ? written.promise : undefined);
    };
    const first = await begun(id, WaitCondition.NEXT_EXIT);
    const killed = bench.containers.killContainer({ container: id, signal: "KILL" }); // Waits for the exit.
    await untilTrue(() => !isRunning(id));
    const next = await begun(id, WaitCondition.NEXT_EXIT);
    written.resolve();
    await killed;
    assert.equal(await first.end, 137);
    await bench.containers.startContainer({ container: id });
    await bench.containers.killContainer({ container: id, signal: "TERM" });
    assert.equal(await next.end, 143);
  });

  for (const condition of [WaitCondition.REMOVED, WaitCondition.NEXT_EXIT]) {
    it(`tells the exit code of a start that failed, of a container that is gone (${WaitCondition[condition]})`, async () => {
      const id = await bench.createScript("", {
        config: { image: "shell", cmd: { values: ["/nowhere"] } },
        hostConfig: { autoRemove: true },
      });
      const since = await accepted(id, condition);
      await assert.rejects(bench.containers.startContainer({ container: id }));
      await untilTrue(() => !bench.state.containers.has(id));
      await crash();
      assert.equal(await goOn(id, condition, since), 127);
    });
  }

  for (const condition of [WaitCondition.NOT_RUNNING, WaitCondition.NEXT_EXIT, WaitCondition.REMOVED]) {
    it(`tells an error with the code of a container whose agent was lost, also once it is gone (${WaitCondition[condition]})`, async () => {
      const id = await bench.runScript("exec sleep 1000");
      const since = await accepted(id, condition);
      await bench.stopBackend();
      await bench.machine.agentOf(id).stop();
      bench.machine.workloads.delete(id);
      await bench.startBackend();
      const lost = { code: 255, error: "the container's agent was lost" };
      if (condition !== WaitCondition.REMOVED) {
        assert.deepEqual(await endOf(id, condition, since), lost);
      }
      assert.deepEqual(await endOf(id, WaitCondition.NOT_RUNNING), lost, "as dockerd tells who asks later");
      await bench.containers.removeContainer({ container: id });
      assert.deepEqual(await endOf(id, condition, since), lost);
    });
  }

  it("tells the exit code of a container that has ended and is gone", async () => {
    const ended = await bench.runScript("exit 5");
    await bench.wait(ended);
    const created = await bench.createScript("true");
    const waits = await Promise.all(
      [ended, created].map(async (id) => [id, await accepted(id, WaitCondition.REMOVED)] as const),
    );
    for (const [id] of waits) {
      await bench.containers.removeContainer({ container: id });
    }
    await crash();
    const codes = await Promise.all(waits.map(([id, since]) => goOn(id, WaitCondition.REMOVED, since)));
    assert.deepEqual(codes, [5, 0]);
    await assert.rejects(bench.wait(ended, WaitCondition.REMOVED), /No such container/);
  });
});

describe("a wait whose frontend is gone", () => {
  const clock = new ManualClock(Date.now());
  const bench = EngineBench.ofEach(() => ({ clock }));

  /** The wait's end: an exit code, or why there is none. */
  async function waiting(container: string, condition: WaitCondition): Promise<{ end: Promise<unknown> }> {
    const messages = bench.containers.waitContainer({ container, condition, needsStart: true });
    const each = messages[Symbol.asyncIterator]();
    await each.next();
    const end = (async () => {
      for (;;) {
        const { value } = await each.next();
        if (value?.message.case === "exited") {
          return Number(value.message.value.exitCode);
        }
      }
    })();
    return { end: end.catch((error: unknown) => (error instanceof Error ? error.message : error)) };
  }

  for (const condition of [WaitCondition.REMOVED, WaitCondition.NEXT_EXIT]) {
    const hostConfig = { autoRemove: condition === WaitCondition.REMOVED };

    it(`breaks where the container is not started (${WaitCondition[condition]})`, async () => {
      const id = await bench.createScript("exit 3", { hostConfig });
      const { end } = await waiting(id, condition);
      await clock.advance(20_000);
      assert.match(String(await end), /was not started: the request for that may have been lost/);
    });

    it(`stands where it is started, or has been (${WaitCondition[condition]})`, async () => {
      const id = await bench.createScript("sleep 60", { hostConfig });
      const waits = [await waiting(id, condition)];
      await clock.advance(19_999);
      await bench.containers.startContainer({ container: id });
      waits.push(await waiting(id, condition));
      await clock.advance(60_000);
      await bench.containers.killContainer({ container: id, signal: "KILL" });
      assert.deepEqual(await Promise.all(waits.map(({ end }) => end)), [137, 137]);
    });
  }

  it("breaks where a container that has run before is not started anew", async () => {
    const id = await bench.runScript("exit 3");
    await bench.wait(id);
    const { end } = await waiting(id, WaitCondition.NEXT_EXIT);
    await clock.advance(20_000);
    assert.match(String(await end), /was not started/);
  });

  it("stands where a container that has run before is to be removed", async () => {
    const id = await bench.runScript("exit 3");
    await bench.wait(id);
    const { end } = await waiting(id, WaitCondition.REMOVED);
    await clock.advance(60_000);
    await bench.containers.removeContainer({ container: id });
    assert.equal(await end, 3);
  });

  it("breaks at once where the start that is under way comes to nothing", async () => {
    bench.machine.busyLaunches = Promise.withResolvers();
    const id = await bench.createScript("exit 3");
    const starting = bench.containers.startContainer({ container: id });
    await untilTrue(() => bench.machine.calls.includes("launch"));
    const { end } = await waiting(id, WaitCondition.NEXT_EXIT);
    bench.machine.busyLaunches.reject(new Error("no room"));
    await assert.rejects(starting, /no room/);
    assert.match(String(await end), /was not started/);
  });
});
