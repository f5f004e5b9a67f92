import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../common/manual-clock.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import {
  ContainerRecordSchema,
  ExecPhase,
  ExecRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../../state/container-table.ts";
import { ExecTable } from "../../state/exec-table.ts";
import type { Change } from "../../state/state.ts";
import type { EngineContext } from "../context.ts";
import { sweepExecsRegularly } from "./exec-remains.ts";

const noSteps = () => ({ operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() });

it("execs that can never be started are dropped container by container, those of one that runs by then are not", async () => {
  const [containers, execs] = [new ContainerTable(), new ExecTable()];
  const [putContainer, changeExecs] = [containers.changeInto(noSteps()).put, execs.changeInto(noSteps())];
  const put = (id: string, status: ContainerStatus): void =>
    putContainer(create(ContainerRecordSchema, { id, state: { status } }));
  for (const containerId of ["a", "b", "c", "d"]) {
    put(containerId, containerId === "b" ? ContainerStatus.RUNNING : ContainerStatus.EXITED);
    for (const [at, phase] of [ExecPhase.CREATED, ExecPhase.CREATED, ExecPhase.ENDED].entries()) {
      changeExecs.put(create(ExecRecordSchema, { id: `${containerId}${at}`, containerId, phase }));
    }
  }
  const dropped: string[][] = [];
  const commit = async (describe: (change: Change) => void): Promise<void> => {
    const ids: string[] = [];
    const remove = (id: string): void => {
      ids.push(id);
      changeExecs.delete(id);
    };
    describe({ execs: { delete: remove } } as unknown as Change);
    dropped.push(ids);
    put("c", ContainerStatus.RUNNING);
  };
  const [clock, over] = [new ManualClock(), new AbortController()];
  const state = { containers, execs, commit };
  sweepExecsRegularly({ state, clock, shutdown: over.signal } as unknown as EngineContext);
  await clock.advance(5 * 60_000);
  over.abort();
  assert.deepEqual(dropped, [
    ["a0", "a1"],
    ["d0", "d1"],
  ]);
  assert.deepEqual([...execs.keys()], ["a2", "b0", "b1", "b2", "c0", "c1", "c2", "d2"]);
});
