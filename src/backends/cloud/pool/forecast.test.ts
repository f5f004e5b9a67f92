import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { queryObjects } from "node:v8";

import { Forecast } from "./forecast.ts";

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;
const hours = { perDay: 6, costOf: () => 1 };
const noPause = (): Promise<void> => Promise.resolve();

/** A day of builds at even hours, each of which three tests follow after four minutes; lasts until ten at night. */
function live(forecast: Forecast, dayBeginMs: number, untilMs = dayBeginMs + 22 * 60 * minuteMs): void {
  for (let atMs = dayBeginMs + 8 * 60 * minuteMs; atMs < untilMs; atMs += 30 * minuteMs) {
    forecast.started(`build ${atMs}`, "builder", atMs);
    if (atMs + 5 * minuteMs > untilMs) {
      return;
    }
    const endMs = atMs + 4 * minuteMs;
    forecast.ended(`build ${atMs}`, endMs);
    for (const test of [1, 2, 3]) {
      forecast.started(`test ${test} ${atMs}`, "tester", endMs + 500 * test);
    }
    for (const test of [1, 2, 3]) {
      forecast.ended(`test ${test} ${atMs}`, endMs + 5 * minuteMs);
    }
    forecast.settle(endMs + 6 * minuteMs);
  }
}

describe("a forecast", () => {
  it("wants nothing before it has seen a day", () => {
    const forecast = new Forecast();
    live(forecast, 0);
    assert.deepEqual([...forecast.wanted(22 * 60 * minuteMs, hours)], []);
  });

  it("expects what follows a burst when the burst is as old as those before it", async () => {
    const forecast = new Forecast();
    live(forecast, 0);
    await forecast.calibrate(hours, noPause);
    const beginMs = dayMs + 12 * 60 * minuteMs;
    live(forecast, dayMs, beginMs + 1);
    const at = (minutes: number) => forecast.wanted(beginMs + minutes * minuteMs, hours).get("tester");
    assert.equal(at(0.5)?.least ?? 0, 0);
    assert.equal(at(3)?.least, 3);
    assert.equal(at(20)?.least ?? 0, 0, "no burst lasted as long");
  });

  it("asks a higher price where a day may cost less, and none is worth it where it may cost nothing", async () => {
    const forecast = new Forecast();
    live(forecast, 0);
    const prices: number[] = [];
    for (const perDay of [10, 3, 1]) {
      await forecast.calibrate({ ...hours, perDay }, noPause);
      prices.push(forecast.price);
    }
    assert.deepEqual(
      prices,
      prices.toSorted((one, other) => one - other),
    );
    await forecast.calibrate({ ...hours, perDay: 0 }, noPause);
    live(forecast, dayMs, dayMs + 12 * 60 * minuteMs + 1);
    const levels = [...forecast.wanted(dayMs + (12 * 60 + 3) * minuteMs, hours).values()];
    assert.deepEqual(
      levels.filter(({ least }) => least > 0),
      [],
    );
  });

  it("keeps nothing for each set of kinds that a running burst has had", () => {
    const forecast = new Forecast();
    live(forecast, 0);
    const before = queryObjects(Map, { format: "count" });
    for (let round = 0; round < 1_100; round++) {
      const nowMs = dayMs + round * 1_000;
      forecast.started(`container ${round}`, `kind ${round}`, nowMs);
      forecast.wanted(nowMs, hours);
    }
    assert.ok(queryObjects(Map, { format: "count" }) - before < 100);
    assert.equal(forecast.kinds.size, 2 + 1_000);
  });

  it("is full with ten thousand bursts, or a hundred thousand kinds in all of them, until a tenth is forgotten", () => {
    const bursts = (count: number, kinds: number) =>
      Array.from({ length: count }, (_, index) => ({
        ...{ beganMs: index * minuteMs, lengthMs: minuteMs, isFollower: false, followers: new Map() },
        counts: new Map(Array.from({ length: kinds }, (_kind, kind) => [`${kind}`, 1])),
      }));
    for (const [count, kinds] of [
      [10_000, 1],
      [100, 1_000],
    ] as const) {
      assert.equal(new Forecast(bursts(count, kinds)).isFull, false);
      const forecast = new Forecast(bursts(count + 1, kinds));
      assert.equal(forecast.isFull, true);
      forecast.forget(forecast.tenthMs);
      assert.equal(forecast.isFull, false);
    }
  });

  it("learns bursts once, with what followed, and forgets old ones", () => {
    const forecast = new Forecast();
    forecast.started("a", "builder", 1000);
    forecast.started("a", "builder", 2000);
    forecast.ended("a", 61_000);
    forecast.started("b", "tester", 62_000);
    forecast.started("c", "tester", 66_000);
    forecast.ended("b", 90_000);
    forecast.ended("c", 120_000);
    const builder = { beganMs: 1000, lengthMs: 60_000, counts: new Map([["builder", 1]]), isFollower: false };
    const testers = new Map([["tester", 2]]);
    const tester = { beganMs: 62_000, lengthMs: 58_000, counts: testers, isFollower: true };
    assert.deepEqual(forecast.settle(200_000), [
      { ...builder, followers: testers },
      { ...tester, followers: new Map() },
    ]);
    assert.deepEqual(forecast.settle(300_000), []);
  });
});
