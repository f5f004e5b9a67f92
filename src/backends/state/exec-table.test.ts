import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ExecPhase, type ExecRecord, ExecRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { ExecTable } from "./exec-table.ts";
import { weightOf } from "./weights.ts";

it("execs are found by container and phase, those first that came into it first", () => {
  const table = new ExecTable();
  const change = table.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() });
  const exec = (id: string, containerId: string, phase: ExecPhase): ExecRecord =>
    create(ExecRecordSchema, { id, containerId, phase });
  const ended = (containerId: string) => table.inPhase(containerId, ExecPhase.ENDED).map(({ id }) => id);
  for (const id of ["a", "b", "c"]) {
    change.put(exec(id, "web", ExecPhase.CREATED));
  }
  change.put(exec("d", "db", ExecPhase.ENDED));
  assert.deepEqual(ended("web"), []);
  for (const id of ["c", "a"]) {
    change.put(exec(id, "web", ExecPhase.ENDED));
  }
  assert.deepEqual([ended("web"), ended("db")], [["c", "a"], ["d"]]);
  const counts = () => [ExecPhase.CREATED, ExecPhase.ENDED].map((phase) => table.countInPhase("web", phase));
  assert.deepEqual(counts(), [1, 2]);
  change.delete("c");
  change.delete("b");
  assert.deepEqual([ended("web"), counts()], [["a"], [0, 1]]);
});

it("an exec weighs all of its record", () => {
  const table = new ExecTable();
  const change = table.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() });
  const exec = create(ExecRecordSchema, {
    id: "e".repeat(64),
    containerId: "c".repeat(64),
    config: { cmd: ["x"] },
    phase: ExecPhase.CREATED,
  });
  change.put(exec);
  assert.equal(table.idleWeight(exec.containerId), weightOf(exec));
  change.put({ ...exec, phase: ExecPhase.RUNNING, pid: 7n });
  const open = () => table.open(exec.containerId).map(({ id }) => id);
  assert.deepEqual([table.idleWeight(exec.containerId), open()], [0, [exec.id]]);
  change.put({ ...exec, phase: ExecPhase.ENDED, exitCode: 3 });
  assert.deepEqual([table.openWeight(exec.containerId), open()], [0, []]);
  change.delete(exec.id);
  assert.deepEqual([table.idleWeights(), table.of(exec.containerId)], [{ heaviest: "", total: 0 }, []]);
});
