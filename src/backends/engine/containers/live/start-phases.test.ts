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

  it("are those of the last task that was asked for", () => {
    const phases = new StartPhases();
    phases.tell({ name: "accepted", by: "backend", from: at(0) });
    phases.tell({ name: "definition", by: "backend", from: at(0), until: at(1) });
    phases.tell({ name: "request", by: "backend", from: at(1), until: at(2) });
    phases.tell({ name: "provisioning", by: "cloud", from: at(2), until: at(5) });
    phases.tell({ name: "pull", by: "cloud", from: at(5) });
    phases.wait(at(9));
    phases.endWait(at(11));
    const names = () => phases.list.map(({ name }) => name);
    assert.deepEqual(names(), ["accepted", "definition", "request", "provisioning", "pull", "wait"]);
    const request = { name: "request", by: "backend", from: at(10), until: at(11) } as const;
    phases.tell(request);
    assert.deepEqual(names(), ["accepted", "definition", "wait", "request"]);
    phases.tell({ name: "provisioning", by: "cloud", from: at(11), until: at(12) });
    phases.tell(request);
    assert.equal(names().at(-1), "provisioning");
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

  it("have each wait for itself after another process, too, and one that it has left goes on", () => {
    const before = new StartPhases();
    for (const from of [1, 4, 7]) {
      before.wait(at(from));
      before.endWait(at(from + 1));
    }
    before.wait(at(10));
    const after = new StartPhases(before.list);
    after.wait(at(15));
    after.endWait(at(20));
    after.wait(at(30));
    after.endWait(at(35));
    assert.equal(phasesInWords(after.list), "wait 1 s, wait 1 s, wait 1 s, wait 10 s, wait 5 s");
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
