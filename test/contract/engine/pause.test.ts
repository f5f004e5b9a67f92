import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerStateSchema, OutOfMemorySchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { until } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a backend that ended between a container's freezing and its record", () => {
  let bench: EngineBench;
  beforeEach(async () => {
    bench = await EngineBench.start();
  });
  afterEach(async () => {
    await bench.close();
  });

  const statusBecomes = (id: string, status: ContainerStatus) =>
    until(() => (bench.state.containers.get(id)?.state?.status === status ? true : undefined));

  it("is followed by one that knows what the agent says", async () => {
    const id = await bench.runScript("exec sleep 60");
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
    const id = await bench.runScript("exec sleep 60");
    await bench.containers.pauseContainer({ container: id });
    assert.equal(bench.machine.agentOf(id).paused, true);
    const agent = bench.machine.agentOf(id);
    agent.tell({ case: "state", value: create(ContainerStateSchema, { paused: false }) });
    agent.tell({ case: "oom", value: create(OutOfMemorySchema) });
    await until(() => (bench.state.containers.get(id)?.state?.oomKilled === true ? true : undefined));
    assert.equal(bench.state.containers.get(id)?.state?.status, ContainerStatus.PAUSED);
  });
});
