import assert from "node:assert/strict";
import { test } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import { Journal } from "../../state/journal.ts";
import { subscribe } from "./subscribe.ts";

test("a subscriber who has left before the subscription leaves no listener, though nobody reads", () => {
  const clock = new ManualClock();
  const journal = new Journal(clock);
  const wanted = { sinceNs: undefined, untilNs: undefined, wants: () => true };
  subscribe(journal, clock, wanted, AbortSignal.abort());
  assert.equal(journal.listeners, 0);
});
