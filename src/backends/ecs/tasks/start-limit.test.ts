import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { describe, it } from "node:test";

import { StartLimit, StartTimeout } from "./start-limit.ts";

const forGood = new AbortController().signal;

describe("the time that a start may take", () => {
  it("stands still while something else is waited for, and goes on then", async () => {
    using limit = new StartLimit(40, forGood);
    limit.pause();
    await delay(80);
    assert.equal(limit.signal.aborted, false);
    limit.resume();
    limit.resume();
    await new Promise((resolve) => limit.signal.addEventListener("abort", resolve));
    assert.ok(limit.signal.reason instanceof StartTimeout);
  });
});
