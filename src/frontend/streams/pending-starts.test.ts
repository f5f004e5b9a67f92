import assert from "node:assert/strict";
import { test } from "node:test";

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
