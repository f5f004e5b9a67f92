/** Reports of an agent on its container are bounded, and say nothing of another's. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import {
  ContainerStateSchema,
  ExecEndedSchema,
  ExitStatusSchema,
  HealthResultSchema,
  OutOfMemorySchema,
  StreamDetachedSchema,
} from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("an agent's reports", () => {
  let clock: ManualClock;
  const bench = EngineBench.ofEach(() => {
    clock = new ManualClock(Date.now());
    return { clock };
  });

  const longLabels = { config: { labels: { long: "x".repeat(2 ** 21) } } };

  /** The actions of a container's events, once its agent has reported its end behind everything else. */
  const actionsAfterEnd = async (container: string): Promise<string[]> => {
    const wait = bench.wait(container);
    bench.machine.agentOf(container).tell({ case: "exited", value: create(ExitStatusSchema, { code: 7 }) });
    assert.equal(await wait, 7);
    return bench.state.events
      .past()
      .filter(({ actorId }) => actorId === container)
      .map(({ action }) => action);
  };

  it("of want of memory write a mebibyte a second at most, however long its labels are", async () => {
    const id = await bench.runScript("exec sleep 1000", longLabels);
    for (let n = 0; n < 20; n++) {
      bench.machine.agentOf(id).tell({ case: "oom", value: create(OutOfMemorySchema) });
    }
    const actions = await actionsAfterEnd(id);
    assert.equal(actions.filter((action) => action === "oom").length, 1);
    const { container } = await bench.containers.inspectContainer({ container: id });
    assert.equal(container?.state?.oomKilled, true);
  });

  it("of clients that left write no more either", async () => {
    const id = await bench.runScript("exec sleep 1000", longLabels);
    for (let n = 0; n < 20; n++) {
      bench.machine.agentOf(id).tell({ case: "streamDetached", value: create(StreamDetachedSchema) });
    }
    const actions = await actionsAfterEnd(id);
    assert.equal(actions.filter((action) => action === "detach").length, 2);
  });

  it("of its pause are recorded, however many clients left with it", async () => {
    const id = await bench.runScript("exec sleep 1000", longLabels);
    const detachedStreams = Array.from({ length: 20 }, () => create(StreamDetachedSchema));
    const state = create(ContainerStateSchema, { paused: true, detachedStreams });
    bench.machine.agentOf(id).tell({ case: "state", value: state });
    const actions = await actionsAfterEnd(id);
    assert.ok(actions.includes("pause"), String(actions));
  });

  it("of small containers are bounded by their number", async () => {
    const id = await bench.runScript("exec sleep 1000");
    for (let n = 0; n < 500; n++) {
      bench.machine.agentOf(id).tell({ case: "oom", value: create(OutOfMemorySchema) });
    }
    const actions = await actionsAfterEnd(id);
    const { length } = actions.filter((action) => action === "oom");
    assert.ok(length >= 128 && length <= 130, `${length} events`);
  });

  it("of its whole state have as many health checks as it keeps", async () => {
    const healthcheck = { test: ["CMD", "true"], retries: 1_000 };
    const id = await bench.runScript("exec sleep 1000", { config: { healthcheck } });
    const health = Array.from({ length: 50 }, () => create(HealthResultSchema, { exitCode: 1 }));
    bench.machine.agentOf(id).tell({ case: "state", value: create(ContainerStateSchema, { health }) });
    await actionsAfterEnd(id);
    const { container } = await bench.containers.inspectContainer({ container: id });
    assert.equal(container?.state?.health?.failingStreak, 5);
  });

  it("that end after the first, over and over, have the driver asked before the agent is asked again", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(id);
    const before = bench.machine.finds;
    agent.endsWatches = true;
    agent.cut();
    await untilTrue(async () => {
      await clock.advance(10);
      return bench.machine.finds > before;
    });
  });

  it("end no exec of another container", async () => {
    const [liar, other] = [
      await bench.runScript("exec sleep 1000"),
      await bench.runScript("exec sleep 1000"),
    ];
    const { id: execId } = await bench.execs.createExec({
      container: other,
      config: { cmd: ["true"] },
    });
    const exit = create(ExitStatusSchema, { code: 0 });
    bench.machine.agentOf(liar).tell({ case: "execEnded", value: create(ExecEndedSchema, { execId, exit }) });
    await actionsAfterEnd(liar);
    assert.equal((await bench.execs.inspectExec({ execId })).exitCode, undefined);
  });
});
