import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import { EngineBench } from "../engine-bench.ts";

describe("the readiness of a backend", () => {
  let clock: ManualClock;
  const bench = EngineBench.ofEach(() => {
    clock = new ManualClock(Date.now());
    return { clock, cloud: true };
  });

  const problems = async () => (await bench.system.getReadiness({})).parts.map(({ problem }) => problem);

  it("has its cloud queried every five seconds, however often it is asked for", async (context) => {
    const list = context.mock.method(bench.engine.context.driver.workloads, "list");
    for (let count = 0; count < 10; count++) {
      assert.deepEqual(await problems(), ["", ""]);
    }
    assert.equal(list.mock.callCount(), 1);
    await clock.advance(5_000);
    await problems();
    assert.equal(list.mock.callCount(), 2);
  });

  it("is not kept for longer where the clock is set back", async (context) => {
    const list = context.mock.method(bench.engine.context.driver.workloads, "list");
    await problems();
    await clock.advance(5_000);
    const now = clock.nowMs();
    context.mock.method(clock, "nowMs", () => now - 8 * 3_600_000);
    await problems();
    assert.equal(list.mock.callCount(), 2);
  });

  it("does not depend on how many containers there are at hand", async (context) => {
    await bench.close();
    await bench.begin();
    const { workloads } = bench.engine.context.driver;
    const list = context.mock.method(workloads, "list");
    const call = context.mock.method(workloads, "storedServed");
    await problems();
    await problems();
    assert.deepEqual([list.mock.callCount(), call.mock.callCount()], [0, 2]);
  });

  it("has it queried once while it does not answer", async (context) => {
    const silence = Promise.withResolvers<never[]>();
    const list = context.mock.method(bench.engine.context.driver.workloads, "list", () => silence.promise);
    for (let count = 0; count < 2; count++) {
      const told = problems();
      await new Promise((resolve) => setTimeout(resolve, 50));
      await clock.advance(4_000);
      assert.deepEqual(await told, ["", "no answer within 4 s"]);
    }
    assert.equal(list.mock.callCount(), 1);
    silence.resolve([]);
  });
});
