import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { phasesInWords, StartPhases } from "./start-phases.ts";

const at = (seconds: number): Date => new Date(1_800_000_000_000 + seconds * 1000);

describe("the phases of a start", () => {
  it("are in the order of their begin, each as it was told last", () => {
    const phases = new StartPhases();
    phases.tell({ name: "pull", by: "cloud", from: at(5) });
    phases.tell({ name: "accepted", by: "backend", from: at(0) });
    phases.tell({ name: "pull", by: "cloud", from: at(5), until: at(13.05) });
    assert.deepEqual(
      phases.list.map(({ name }) => name),
      ["accepted", "pull"],
    );
    assert.equal(phasesInWords(phases.list), "pull 8.05 s");
  });

  it("are told once, and again when more is known of them", () => {
    const phases = new StartPhases();
    const begun = { name: "pull", by: "cloud", from: at(5) } as const;
    assert.notEqual(phases.tell(begun), undefined);
    assert.equal(phases.tell(begun), undefined);
    assert.notEqual(phases.tell({ ...begun, until: at(6) }), undefined);
  });

  it("have each wait for itself", () => {
    const phases = new StartPhases();
    phases.wait(at(1));
    phases.endWait(at(3));
    assert.equal(phases.endWait(at(4)), undefined);
    phases.wait(at(7));
    phases.endWait(at(7.5));
    assert.equal(phasesInWords(phases.list), "wait 2 s, wait 0.5 s");
  });

  it("go on where a process before this one has left off", () => {
    const before = new StartPhases();
    before.tell({ name: "accepted", by: "backend", from: at(0) });
    const after = new StartPhases(before.list);
    after.tell({ name: "process", by: "agent", from: at(9) });
    assert.deepEqual(
      after.list.map(({ name }) => name),
      ["accepted", "process"],
    );
  });
});
