import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import {
  type ContainerState,
  ContainerStateSchema,
  ContainerStatus,
  HealthStatus,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { humanDuration, statusText } from "./status-text.ts";

const now = Date.UTC(2026, 0, 1);
const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

test("durations are told in dockerd's words", () => {
  const cases: readonly (readonly [number, string])[] = [
    [-5, "Less than a second"],
    [999, "Less than a second"],
    [1000, "1 second"],
    [59_999, "59 seconds"],
    [minute, "About a minute"],
    [2 * minute, "2 minutes"],
    [59 * minute + 59_000, "59 minutes"],
    [hour, "About an hour"],
    [hour + 29 * minute, "About an hour"],
    [hour + 30 * minute, "2 hours"],
    [47 * hour, "47 hours"],
    [2 * day, "2 days"],
    [13 * day, "13 days"],
    [14 * day, "2 weeks"],
    [59 * day, "8 weeks"],
    [60 * day, "2 months"],
    [729 * day, "24 months"],
    [730 * day, "2 years"],
  ];
  for (const [ms, expected] of cases) {
    assert.equal(humanDuration(ms), expected, `${ms} ms`);
  }
});

test("a state is told as docker ps shows it", () => {
  const startedAt = timestampFromMs(now - 5 * minute);
  const finishedAt = timestampFromMs(now - 2 * minute);
  const healthy = { status: HealthStatus.HEALTHY };
  const cases: readonly (readonly [ContainerState, string])[] = [
    [state({ status: ContainerStatus.CREATED }), "Created"],
    [state({ status: ContainerStatus.CREATED, waitsFor: "no room" }), "Created (waits: no room)"],
    [
      state({ status: ContainerStatus.EXITED, finishedAt, exitCode: 1, waitsFor: "a".repeat(61) }),
      `Exited (1) 2 minutes ago (waits: ${"a".repeat(59)}…)`,
    ],
    [state({ status: ContainerStatus.RUNNING, startedAt }), "Up 5 minutes"],
    [state({ status: ContainerStatus.RUNNING, startedAt, health: healthy }), "Up 5 minutes (healthy)"],
    [
      state({ status: ContainerStatus.RUNNING, startedAt, health: { status: HealthStatus.STARTING } }),
      "Up 5 minutes (health: starting)",
    ],
    [state({ status: ContainerStatus.PAUSED, startedAt }), "Up 5 minutes (Paused)"],
    [
      state({ status: ContainerStatus.RESTARTING, startedAt, finishedAt, exitCode: 3 }),
      "Restarting (3) 2 minutes ago",
    ],
    [
      state({ status: ContainerStatus.EXITED, startedAt, finishedAt, exitCode: 137 }),
      "Exited (137) 2 minutes ago",
    ],
    [state({ status: ContainerStatus.REMOVING }), "Removal In Progress"],
    [state({ status: ContainerStatus.DEAD }), "Dead"],
  ];
  for (const [given, expected] of cases) {
    assert.equal(statusText(given, now), expected);
  }
});

function state(init: Parameters<typeof create<typeof ContainerStateSchema>>[1]): ContainerState {
  return create(ContainerStateSchema, init);
}
