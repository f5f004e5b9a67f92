import assert from "node:assert/strict";
import { once } from "node:events";
import { after, describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { create } from "@bufbuild/protobuf";

import {
  WaitCondition,
  WaitContainerRequestSchema,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { AgentAccessSchema } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { systemClock } from "../../../../common/clock.ts";
import { ContainerTable } from "../../../state/container-table.ts";
import type { EngineContext } from "../../context.ts";
import { failedAgentReplaced } from "../agent/leaving-agents.ts";
import { LiveContainer } from "../live/live.ts";
import { StartPhases } from "../live/start-phases.ts";
import { waitForContainer } from "../run/wait-container.ts";
import { asStartUnderWay, containerOnceStarted, endStart } from "./start-under-way.ts";

describe("a start that lasts", () => {
  const id = "a".repeat(64);
  const live = new LiveContainer(id);
  const containers = new ContainerTable();
  const steps = { operations: [], undo: [], grows: new Set<never>(), overfills: new Set<never>() };
  containers.changeInto(steps).put(create(ContainerRecordSchema, { id, name: "a", state: {} }));
  const context = {
    state: { containers, events: { past: () => [] } },
    live: { of: () => live },
    clock: systemClock,
    shutdown: new AbortController().signal,
  } as unknown as EngineContext;
  const { promise, resolve } = Promise.withResolvers<void>();
  const started = asStartUnderWay(live, new StartPhases(), () => promise);
  after(async () => {
    resolve();
    await started;
  });
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  /** Bytes in use. What was looked at in a turn is kept until its end, and some until what it belongs to is gone. */
  const used = async (): Promise<number> => {
    for (let round = 0; round < 3; round++) {
      await nextTurn();
      gc();
    }
    return process.memoryUsage().heapUsed;
  };
  live.released = promise;
  const failed = create(AgentAccessSchema, { failedGeneration: 0n });
  const wait = create(WaitContainerRequestSchema, { container: id, condition: WaitCondition.NOT_RUNNING });
  const calls: Record<string, (client: AbortSignal) => Promise<unknown>> = {
    "an exec": (client) => containerOnceStarted(context, id, client),
    logs: (client) => failedAgentReplaced(context, id, failed, client),
    "a wait": (client) => waitForContainer(context, wait, client).result,
  };

  for (const [name, call] of Object.entries(calls)) {
    it(`keeps nothing of clients that have left ${name}`, async () => {
      const leave = async (): Promise<void> => {
        const client = new AbortController();
        const answer = call(client.signal);
        client.abort();
        await assert.rejects(answer, { name: "AbortError" });
      };
      await leave();
      const before = await used();
      for (let count = 0; count < 5_000; count++) {
        await leave();
      }
      const kept = (await used()) - before;
      assert.ok(kept < 2 ** 21, `${kept} bytes`);
    });
  }
});

describe("a start that users end", () => {
  it("records that once, however often", async () => {
    const id = "b".repeat(64);
    const live = new LiveContainer(id);
    let record = create(ContainerRecordSchema, { id, state: {} });
    let commits = 0;
    const context = {
      state: {
        containers: { get: () => record },
        commit: (describe: (change: unknown) => void) => {
          commits++;
          describe({ containers: { put: (changed: typeof record) => (record = changed) } });
          return Promise.resolve();
        },
      },
      driver: { launches: { stopDuringLaunch: "end" } },
    } as unknown as EngineContext;
    const started = asStartUnderWay(live, new StartPhases(), async (ended) => {
      await once(ended, "abort");
      throw ended.reason;
    });
    const stops = Array.from({ length: 100 }, () => endStart(context, live, "stopped"));
    await assert.rejects(started, /was stopped while it was being started/);
    assert.deepEqual(new Set(await Promise.all(stops)), new Set([true]));
    assert.equal(commits, 1);
  });
});
