import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import { until } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("how long a container has to end after its stop signal", () => {
  let bench: EngineBench;
  let clock: ManualClock;
  beforeEach(async () => {
    clock = new ManualClock(Date.now());
    bench = await EngineBench.start({ clock });
  });
  afterEach(async () => {
    await bench.close();
  });

  const cases: readonly (readonly [string, number | undefined, number | undefined, number])[] = [
    ["is ten seconds", undefined, undefined, 10],
    ["is what its configuration says", 3, undefined, 3],
    ["is what the call says", 3, 5, 5],
  ];
  for (const [what, ofContainer, ofCall, seconds] of cases) {
    it(what, async () => {
      const ready = path.join(bench.machine.directory, "ready");
      const id = await bench.runScript(`trap "" TERM; : > ${ready}; while :; do sleep 0.05; done`, {
        config: ofContainer === undefined ? {} : { stopTimeout: ofContainer },
      });
      await until(() => existsSync(ready) || undefined);
      const agent = bench.machine.agentOf(id);
      const before = clock.sleeping;
      const stopped = bench.containers.stopContainer({
        container: id,
        ...(ofCall === undefined ? {} : { timeoutSeconds: ofCall }),
      });
      await until(() => (agent.calls.includes("signal 15") && clock.sleeping > before) || undefined);
      const asked = clock.nowMs();
      const isKilled = () => agent.calls.includes("signal 9");
      while (!isKilled() && clock.nowMs() - asked < seconds * 1000) {
        await clock.advance(100);
        await new Promise((resolve) => setTimeout(resolve, 1)); // for what the step has set off
      }
      assert.equal(clock.nowMs() - asked, seconds * 1000);
      await stopped;
      assert.ok(isKilled());
    });
  }
});
