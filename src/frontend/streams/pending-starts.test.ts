import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";

import { PendingStarts } from "./pending-starts.ts";

const id = "0123456789abcdef";

test("a start of the container whose attachment is lost, by whatever name, has lost its output", () => {
  const starts = new PendingStarts();
  for (const container of [id, id.slice(0, 12), "name"]) {
    using asked = starts.begin(container);
    using other = starts.begin("other");
    starts.loseOutput(id, "name");
    assert.deepEqual([asked.hasLostOutput, other.hasLostOutput], [true, false], container);
  }
});

test("a start that is asked for after the loss has lost nothing", () => {
  const starts = new PendingStarts();
  starts.begin(id)[Symbol.dispose]();
  starts.loseOutput(id, "name");
  using asked = starts.begin(id);
  assert.equal(asked.hasLostOutput, false);
});

test("a start that has begun waits for attachments that its agent was to wait for, until they are open or lost", async () => {
  const starts = new PendingStarts();
  using asked = starts.begin("name");
  using _later = starts.attach(id, "name");
  using _others = starts.attach("f".repeat(16), "other");
  const served = starts.attach(id, "name");
  served.served();
  assert.equal(starts.isPending(id, "name"), true);
  let isOver = false;
  const begun = asked.begun().then(() => {
    isOver = true;
  });
  assert.equal(starts.isPending(id, "name"), false);
  await setImmediate();
  assert.equal(isOver, false);
  starts.loseOutput(id, "name");
  served[Symbol.dispose]();
  await begun;
  assert.equal(asked.hasLostOutput, true);
});
