import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { ExitStatusSchema } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { exitOf } from "./task-agents.ts";

describe("the time at which an agent says that its run has ended", () => {
  const startedMs = Date.UTC(2025, 0, 1);
  const endOf = (
    finishedAt: { readonly seconds: bigint; readonly nanos?: number } | undefined,
    start = startedMs,
  ) =>
    exitOf(
      create(ExitStatusSchema, { code: 3, ...(finishedAt && { finishedAt }) }),
      timestampFromMs(start),
    ).finishedAt.getTime();
  const isNow = (ms: number, beforeMs: number) => ms >= beforeMs && ms <= Date.now();

  it("is believed between the start and now", () => {
    assert.equal(endOf(timestampFromMs(startedMs + 1_500)), startedMs + 1_500);
  });

  it("is not before the start", () => {
    assert.equal(endOf(timestampFromMs(startedMs - 1)), startedMs);
    assert.equal(endOf({ seconds: -(1n << 62n) }, 0), 0);
  });

  it("is now where it says none, or one to come, or one that no calendar has", () => {
    const beforeMs = Date.now();
    assert.ok(isNow(endOf(undefined), beforeMs));
    assert.ok(isNow(endOf(timestampFromMs(beforeMs + 3_600_000)), beforeMs));
    assert.ok(isNow(endOf({ seconds: 1n << 62n }), beforeMs));
    assert.ok(
      isNow(endOf(timestampFromMs(startedMs), beforeMs + 3_600_000), beforeMs),
      "nor a start to come",
    );
  });
});
