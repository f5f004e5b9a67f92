import assert from "node:assert/strict";
import { test } from "node:test";

import { ManualClock } from "../common/manual-clock.ts";
import { DearHandshakes, longestDialled } from "./dear-handshakes.ts";

test("an agent whose handshakes stay too long is dialled less and less often", async () => {
  const clock = new ManualClock();
  const handshakes = new DearHandshakes(clock);
  let dials = 0;
  for (let minute = 0; minute < 24 * 60; minute++) {
    if (!handshakes.has("hostile")) {
      dials++;
      handshakes.note("hostile", longestDialled + 1);
    }
    handshakes.note("genuine", longestDialled);
    assert.ok(!handshakes.has("genuine"));
    await clock.advance(60_000);
  }
  assert.equal(dials, 6 + 23);
});
