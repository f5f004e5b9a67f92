/**
 * A pool that learns: containers of a kind that was started again and again on the days before find a task, within what a day
 * may cost. Those days are written into the state, since nobody waits for them.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { openState } from "../../src/backends/state/state.ts";
import { systemClock } from "../../src/common/clock.ts";
import { PoolRecordSchema } from "../../src/gen/sockerless/state/v1/state_pb.ts";
import type { SeenTask } from "../simulators/aws/services/ecs/ecs.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { runSockerless } from "../support/run-sockerless.ts";
import { untilTrue } from "../support/until.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const kind = "busybox network=bridge";

describe("a learned pool on ECS", () => {
  const ecs = duringTests(() =>
    EcsDaemon.start({
      ecs: { linger: "1s", agent_mode: "direct" },
      daemon: {
        args: ["--pool-mode=learned", "--pool-max-idle-hours-per-day=20", "--pool-max-tasks=3"],
      },
    }),
  );

  const running = (): readonly SeenTask[] =>
    ecs.aws.ecs.tasks.filter(({ state }) => state.desiredStatus === "RUNNING");
  const pool = (...args: string[]): Promise<string> =>
    runSockerless("pool", ...args, "--backend-address", `unix://${ecs.daemon.backendSocket}`);
  const why = (container: string): Promise<string> =>
    runSockerless("why", "--host", ecs.daemon.host, container);

  /** Writes two starts every two minutes, of the last three days, around this time of the day. */
  const writeDays = async (): Promise<void> => {
    const state = await openState({ directory: ecs.daemon.stateDir, clock: systemClock });
    try {
      assert.ok(state.pool.has(`kind ${kind}`), "the first start has told how its task is asked for");
      await state.commit((change) => {
        const nowMs = systemClock.nowMs();
        for (const dayMs of [1, 2, 3].map((days) => nowMs - days * 24 * hourMs)) {
          for (let beganMs = dayMs - hourMs; beganMs < dayMs + hourMs; beganMs += 2 * minuteMs) {
            const burst = {
              beganAt: timestampFromMs(beganMs),
              lengthMs: BigInt(minuteMs),
              counts: { [kind]: 2 },
            };
            change.pool.put(create(PoolRecordSchema, { id: `burst ${beganMs}`, burst }));
          }
        }
      }, "happened");
    } finally {
      await state.close();
    }
  };

  it("prepares nothing for what it has never seen, and tells so", async () => {
    await ecs.daemon.ok("run", "--name=first", "busybox", "true");
    assert.match(await why("first"), /^Not prepared, because no tasks are to wait now\.$/m);
    await ecs.daemon.ok("rm", "first");
  });

  it("has tasks wait for what comes again and again, and gives them to starts", async () => {
    await ecs.daemon.shutDown();
    await writeDays();
    await ecs.daemon.launch();
    await untilTrue(async () => (await pool("list")).includes(" ready "));
    assert.match(await pool("forecast"), new RegExp(`^${kind} +[1-3] +[1-3] +[1-3]$`, "m"));
    await ecs.daemon.ok("run", "--detach", "--name=next", "busybox", "sleep", "600");
    assert.match(await why("next"), /^It runs in a prepared task\.$/m);
    await ecs.daemon.ok("rm", "--force", "next");
    assert.ok(running().length <= 4, "three that wait, and the container's own");
  });

  /** Writes into the state that a day's hours are used up, but for seconds. */
  const spend = async (day: string): Promise<void> => {
    await ecs.daemon.shutDown();
    const state = await openState({ directory: ecs.daemon.stateDir, clock: systemClock });
    try {
      const spending = state.pool.get("spending")?.spending;
      assert.ok(spending !== undefined && spending.countedUntil !== undefined, "what waits is counted");
      const spent = { ...spending, day, idleHours: 19.999 };
      await state.commit(
        (change) => change.pool.put(create(PoolRecordSchema, { id: "spending", spending: spent })),
        "happened",
      );
    } finally {
      await state.close();
    }
    await ecs.daemon.launch();
  };
  const today = (): string => new Date(systemClock.nowMs()).toISOString().slice(0, 10);

  it("has none waiting once a day may not cost more", async () => {
    let told: { readonly info: string; readonly why: string } | undefined;
    // Another day, which begins with its own hours, may come in between.
    for (let day = ""; day !== today(); ) {
      day = today();
      await spend(day);
      await untilTrue(() => running().length === 0 || day !== today());
      const info = await ecs.daemon.ok("info");
      await ecs.daemon.ok("run", "--name=late", "busybox", "true");
      told = { info, why: await why("late") };
      await ecs.daemon.ok("rm", "late");
    }
    assert.match(told?.info ?? "", /sockerless\.pool=learned: 0 of .*; the day's limit is reached$/m);
    assert.match(told?.why ?? "", /^Not prepared, because the day's limit is reached\.$/m);
  });
});
