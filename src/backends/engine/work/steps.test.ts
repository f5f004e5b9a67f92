import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { type Verb, performSteps, undoSteps } from "./steps.ts";

/** A verb that writes down what it does, and fails at a step. */
function verbFailingAt(failing?: string): Verb<string[]> {
  const step = (name: string) => ({
    name,
    run: (done: string[]) => {
      done.push(name);
      if (name === failing) {
        throw new Error(name);
      }
    },
    undo: async (done: string[]) => void done.push(`no ${name}`),
  });
  return {
    name: "make",
    steps: [step("journal"), { name: "look", run: step("look").run }, step("record")],
    failed: async (done, error) => {
      done.push("failed");
      return new Error("taken back", { cause: error });
    },
  };
}

describe("a verb", () => {
  it("does its steps in order, and from one on where the journal has the first", async () => {
    const all: string[] = [];
    await performSteps(verbFailingAt(), all);
    assert.deepEqual(all, ["journal", "look", "record"]);
    const rest: string[] = [];
    await performSteps(verbFailingAt(), rest, "look");
    assert.deepEqual(rest, ["look", "record"]);
  });

  it("is taken back where a step fails that comes after the journal's", async () => {
    const done: string[] = [];
    await assert.rejects(performSteps(verbFailingAt("look"), done), /taken back/);
    assert.deepEqual(done, ["journal", "look", "failed"]);
    await assert.rejects(performSteps(verbFailingAt("journal"), done), /journal/);
    assert.equal(done.filter((each) => each === "failed").length, 1);
  });

  it("is undone from its last step on", async () => {
    const done: string[] = [];
    await undoSteps(verbFailingAt(), done);
    assert.deepEqual(done, ["no record", "no journal"]);
  });
});
