import assert from "node:assert/strict";
import { test } from "node:test";

import { StepPace, Steps } from "./step-pace.ts";

test("a crowd of looks of one kind makes those of another wait for no turns of theirs", async () => {
  const { signal } = new AbortController();
  const [crowded, other] = [new Steps(10), new Steps(10)];
  let stepped = 0;
  const crowd = Array.from({ length: 100 }, async () => {
    const pace = new StepPace(crowded, signal);
    for (let n = 0; n < 3; n++) {
      await pace.spend(11);
      stepped += 1;
    }
  });
  const pace = new StepPace(other, signal);
  for (let n = 0; n < 3; n++) {
    await pace.spend(11);
  }
  assert.ok(stepped < 10, `${stepped} steps of others before`);
  await Promise.all(crowd);
});
