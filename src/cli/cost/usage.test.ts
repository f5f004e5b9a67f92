import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Prices } from "../../common/prices.ts";
import { costsOf, total, type UsedContainer } from "./usage.ts";

const hour = 3_600_000;
const period = { fromMs: 24 * hour, nowMs: 34 * hour };
const prices: Prices = {
  ...{ date: "2026-06-01", of: "a cloud", currency: "USD" },
  ...{ perVcpuHour: 0.04, perGibHour: 0.005, leastSeconds: 60 },
};
const used = (name: string, about: Partial<UsedContainer>): UsedContainer => ({
  ...{ id: name, name, labels: {}, size: { cpus: 1, gib: 2 }, isRemoved: false, runs: [] },
  ...about,
});
const run = (fromMs: number, untilMs?: number): UsedContainer["runs"][number] => ({ fromMs, untilMs });
const secondsOf = (runs: UsedContainer["runs"]): number =>
  total("", costsOf([used("a", { runs })], prices, period, undefined)).seconds;

describe("costs", () => {
  it("are those of vCPUs and memory for the time of all runs, the dearest first", () => {
    const small = used("small", { size: { cpus: 0.25, gib: 0.5 }, runs: [run(33 * hour)] });
    const twice = used("twice", { runs: [run(25 * hour, 26 * hour), run(30 * hour)] });
    const [first, second] = costsOf([small, twice], prices, period, undefined);
    assert.deepEqual(
      [first?.name, first?.seconds, first?.running, first?.amount.toFixed(6), first?.perHour.toFixed(6)],
      ["twice", 5 * 3600, 1, "0.250000", "0.050000"],
    );
    assert.deepEqual([second?.name, second?.amount.toFixed(6)], ["small", "0.012500"]);
  });

  it("count the part of a run that falls into the period", () => {
    assert.equal(secondsOf([run(20 * hour, 25 * hour)]), 3600);
    assert.equal(secondsOf([run(20 * hour, 24 * hour)]), 0);
    assert.equal(secondsOf([run(20 * hour)]), 10 * 3600);
  });

  it("count the least that is charged of a run that ended", () => {
    assert.equal(secondsOf([run(25 * hour, 25 * hour + 5_000)]), 60);
    assert.equal(secondsOf([run(period.nowMs - 5_000)]), 5);
  });

  it("are summed by the values of a label, and at least those of what is removed", () => {
    const runs = [run(33 * hour)];
    const costs = costsOf(
      [
        used("a", { runs, labels: { team: "x" } }),
        used("b", { runs: [run(32 * hour, 33 * hour)], labels: { team: "x" }, isRemoved: true }),
        used("c", { runs }),
      ],
      prices,
      period,
      "team",
    );
    assert.deepEqual(
      costs.map(({ name, containers, running, isLeast }) => [name, containers, running, isLeast]),
      [
        ["x", 2, 1, true],
        ["(no team)", 1, 1, false],
      ],
    );
  });
});
