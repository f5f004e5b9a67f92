import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import { StartLimit, StartTimeout } from "./start-limit.ts";

const forGood = new AbortController().signal;

describe("the time that a start may take", () => {
  it("stands still while something else is waited for, and goes on then", async () => {
    const clock = new ManualClock();
    using limit = new StartLimit(40, "nimbus", forGood, clock);
    await clock.advance(10);
    limit.pause();
    await clock.advance(80);
    limit.resume();
    limit.resume();
    await clock.advance(29);
    assert.equal(limit.signal.aborted, false);
    await clock.advance(1);
    assert.ok(limit.signal.reason instanceof StartTimeout);
  });
});
