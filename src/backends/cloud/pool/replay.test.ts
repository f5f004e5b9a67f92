import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";

import { parseTrace, type RecordedStart, replay, requestOf } from "../testing/replay.ts";

const directory = join(dirname(findPackageJSON(import.meta.url) ?? "."), "test/fixtures/traces");
const day = (name: string): readonly RecordedStart[] =>
  parseTrace(readFileSync(join(directory, `${name}.csv`), "utf8"));
const noonS = 12 * 60 * 60;
/** Hours of a share of what a day's tasks work, each with its start. */
const shareOf = (starts: readonly RecordedStart[], share: number): number =>
  (starts.reduce((sum, { durationS }) => sum + durationS + 35, 0) / 3600) * share;
const close = (one: number, other: number): boolean => Math.abs(one - other) <= 0.02 * Math.max(one, other);

// The busy days, and each day the other way round, take minutes: their figures are in ADR 133.
describe("a recorded day with a learned pool", () => {
  it("waits less, within what a day may cost, over a restart", async () => {
    const [learned, tried] = [day("small-day-1"), day("small-day-2")];
    const limits = { idleHours: shareOf(learned, 0.45), cost: Infinity };
    const found = await replay([learned, tried], { limits, restartS: noonS });
    assert.ok(found.saved >= 0.2, JSON.stringify(found));
    assert.ok(found.idleShare <= 0.5, JSON.stringify(found));
    assert.ok(found.idleHours <= limits.idleHours, "never more than a day may cost");
    assert.ok(close(found.bookedHours, found.idleHours), JSON.stringify(found));
  });

  it("prepares nothing in vain where each start has a network of its own that tasks are made with", async () => {
    const days = [day("small-day-1"), day("small-day-2")].map((starts) => starts.slice(0, 60));
    const limits = { idleHours: Infinity, cost: 1 };
    const { hits, idleHours } = await replay(days, { limits, hasOwnNetworks: true });
    assert.deepEqual({ hits, idleHours }, { hits: 0, idleHours: 0 });
  });

  it("has nothing waiting once the day's money is spent", async () => {
    const tried = day("small-day-2");
    const image = { image: "node:22", cpuUnits: 1024, memoryMib: 2048 };
    const limits = { idleHours: Infinity, cost: 0.25 };
    const fixed = () => [{ request: requestOf(image), kind: image.image, count: 2 }];
    const found = await replay([tried], { limits, fixed });
    assert.ok(found.idleCost <= 0.25, JSON.stringify(found));
    assert.ok(found.idleCost > 0.24, JSON.stringify(found));
  });
});
