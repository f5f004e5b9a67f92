import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("what a container leaves, on a machine that is away for long", () => {
  let clock: ManualClock;
  const bench = EngineBench.ofEach(() => {
    clock = new ManualClock(Date.now());
    return { clock };
  });

  const callsOf = (name: string) => bench.machine.calls.filter((call) => call === name).length;
  /** Lets time go by until something holds. */
  const pass = async (holds: () => boolean): Promise<void> => {
    await untilTrue(async () => {
      if (!holds()) {
        await clock.advance(60_000);
      }
      return holds();
    });
  };
  /** Far more than a moment's. */
  const attempts = 8;

  it("is cleared away after a removal once the machine is back", async () => {
    const id = await bench.createScript("true");
    bench.machine.refused.add("remove");
    await bench.containers.removeContainer({ container: id });
    await pass(() => callsOf("remove") >= attempts);
    assert.ok(bench.state.containers.has(id));
    bench.machine.refused.clear();
    await pass(() => !bench.state.containers.has(id));
    assert.ok(!bench.machine.workloads.has(id));
  });

  it("is released after its end once the machine is back", async () => {
    bench.machine.refused.add("release");
    const id = await bench.runScript("exit 0", { hostConfig: { networkMode: "bridge" } });
    await pass(() => callsOf("release") >= attempts);
    assert.ok(bench.machine.workloads.get(id)?.agent !== undefined);
    bench.machine.refused.clear();
    await pass(() => bench.machine.workloads.get(id)?.agent === undefined);
  });

  it("is released no more where the container runs again", async () => {
    bench.machine.refused.add("release");
    const id = await bench.createScript("[ ! -e $FILE ] || exec sleep 1000; : > $FILE", {
      config: { env: [`FILE=${bench.machine.directory}/ran`] },
    });
    await bench.containers.startContainer({ container: id });
    await untilTrue(() => bench.state.containers.get(id)?.state?.status === ContainerStatus.EXITED);
    await untilTrue(() => callsOf("release") >= 1);
    await bench.containers.startContainer({ container: id });
    bench.machine.refused.clear();
    const releases = callsOf("release");
    for (let minutes = 0; minutes < 20; minutes++) {
      await clock.advance(60_000);
    }
    assert.equal(callsOf("release"), releases);
    assert.equal(bench.state.containers.get(id)?.state?.status, ContainerStatus.RUNNING);
  });

  it("is released by the next backend, too, as often as it takes", async () => {
    bench.machine.refused.add("release");
    const id = await bench.runScript("exit 0");
    await untilTrue(() => callsOf("release") >= 1);
    await bench.stopBackend();
    const releases = callsOf("release");
    await bench.startBackend();
    await pass(() => callsOf("release") >= releases + attempts);
    bench.machine.refused.clear();
    await pass(() => bench.machine.workloads.get(id)?.agent === undefined);
  });
});
