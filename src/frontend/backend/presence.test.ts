/** The knowledge of whether the backend is there. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { pino } from "pino";

import { type Clock, systemClock } from "../../common/clock.ts";
import {
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
} from "../../gen/grpc/health/v1/health_pb.ts";
import { BackendPresence } from "./presence.ts";

test("whether the backend is there is told without a timer once it is known", async () => {
  let timers = 0;
  const clock: Clock = {
    nowMs: () => systemClock.nowMs(),
    nowNs: () => systemClock.nowNs(),
    sleep: (ms, signal) => {
      timers += 1;
      return systemClock.sleep(ms, signal);
    },
  };
  const presence = new BackendPresence({
    ...{ clock, logger: pino({ level: "silent" }), reach: { address: "unix:///nowhere" } },
    health: {
      async *watch(_request, { signal } = {}) {
        yield create(HealthCheckResponseSchema, { status: HealthCheckResponse_ServingStatus.SERVING });
        await new Promise((_, reject) => {
          signal?.addEventListener("abort", () => reject(signal.reason as Error));
        });
      },
    },
  });
  presence.watch();
  try {
    assert.equal(await presence.absence(), undefined);
    const before = timers;
    for (let asked = 0; asked < 10; asked++) {
      assert.equal(await presence.absence(), undefined);
    }
    assert.equal(timers, before);
  } finally {
    await presence.close();
  }
});
