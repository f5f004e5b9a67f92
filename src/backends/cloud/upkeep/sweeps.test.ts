import assert from "node:assert/strict";
import { it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import { keepSweeping } from "./sweeps.ts";
import { capturedLogger } from "../testing/captured-logger.ts";

it("clears nothing away while the state may have lost what is used", async () => {
  const clock = new ManualClock();
  const { logger } = capturedLogger();
  let isKnown = false;
  const swept: string[] = [];
  const sweep = (what: string) => ({ what, run: async () => void swept.push(what) });
  const sweeps = keepSweeping([sweep("jobs"), sweep("images")], clock, logger, () => isKnown);
  await clock.advance(24 * 60 * 60_000);
  assert.deepEqual(swept, []);
  isKnown = true;
  await clock.advance(6 * 60 * 60_000);
  assert.deepEqual(swept, ["jobs", "images"]);
  await sweeps.close();
});
