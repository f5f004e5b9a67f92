import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { SystemClock } from "./clock.ts";
import { ManualClock } from "./manual-clock.ts";

describe("the system clock", () => {
  it("gives nanoseconds that agree with the wall clock and never repeat", () => {
    const clock = new SystemClock();
    const times = Array.from({ length: 1000 }, () => clock.nowNs());
    assert.equal(new Set(times).size, times.length);
    const apart = Number((times.at(-1) ?? 0n) / 1_000_000n) - clock.nowMs();
    assert.ok(Math.abs(apart) <= 50, `${apart} ms apart`);
  });

  it("ends a sleep with the signal's own reason", async () => {
    const reason = new Error("the client left");
    const controller = new AbortController();
    const sleep = new SystemClock().sleep(60_000, controller.signal);
    controller.abort(reason);
    await assert.rejects(sleep, (error) => error === reason);
  });

  it("sleeps for longer than one of Node's timers can, which would end at once", async () => {
    const controller = new AbortController();
    const sleep = new SystemClock().sleep(2 ** 31, controller.signal);
    await delay(20);
    controller.abort(new Error("still asleep"));
    await assert.rejects(sleep, /still asleep/);
  });
});

describe("the manual clock", () => {
  it("stands still until it is moved, then wakes sleepers in the order of their times", async () => {
    const clock = new ManualClock(0);
    const woken: string[] = [];
    const sleeps = [
      clock.sleep(200).then(() => woken.push(`b at ${clock.nowMs()}`)),
      clock.sleep(100).then(() => woken.push(`a at ${clock.nowMs()}`)),
      clock.sleep(301).then(() => woken.push("c")),
    ];
    await clock.advance(300);
    assert.deepEqual(woken, ["a at 100", "b at 200"]);
    assert.equal(clock.nowMs(), 300);
    assert.equal(clock.sleeping, 1);
    await clock.advance(1);
    await Promise.all(sleeps);
    assert.deepEqual(woken, ["a at 100", "b at 200", "c"]);
  });

  it("wakes one who goes to sleep again within the time moved", async () => {
    const clock = new ManualClock(0);
    let ticks = 0;
    const ticking = (async () => {
      while (ticks < 3) {
        await clock.sleep(10);
        ticks++;
      }
    })();
    await clock.advance(30);
    await ticking;
    assert.equal(ticks, 3);
  });

  it("forgets a sleeper whose signal aborts", async () => {
    const clock = new ManualClock(0);
    const controller = new AbortController();
    const sleep = clock.sleep(10, controller.signal);
    controller.abort(new Error("stop"));
    await assert.rejects(sleep, /stop/);
    assert.equal(clock.sleeping, 0);
    await assert.rejects(clock.sleep(10, controller.signal), /stop/);
  });
});
