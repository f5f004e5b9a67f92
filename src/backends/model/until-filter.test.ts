import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { Filters } from "./filters.ts";
import { untilOf } from "./until-filter.ts";

const nowMs = Date.UTC(2026, 0, 2, 12, 0, 0, 500);
const untilAt = (...values: string[]): bigint | undefined =>
  untilOf(new Filters({ until: create(StringListSchema, { values }) }, ["until"]), nowMs);
const ns = (text: string): bigint => BigInt(Date.parse(text)) * 1_000_000n;

test("a duration counts back from now, in whole seconds", () => {
  assert.equal(untilAt("10m"), ns("2026-01-02T11:50:00Z"));
  assert.equal(untilAt("1h30m"), ns("2026-01-02T10:30:00Z"));
  assert.equal(untilAt("1.5h"), ns("2026-01-02T10:30:00Z"));
  assert.equal(untilAt("-1h"), ns("2026-01-02T13:00:00Z"));
});

test("a time is Unix seconds or RFC 3339, to the day or as exact as it is written", () => {
  assert.equal(untilAt("0"), 0n);
  assert.equal(untilAt("1700000000.25"), 1_700_000_000_250_000_000n);
  assert.equal(untilAt("2026-01-01T10:00:00+02:00"), ns("2026-01-01T08:00:00Z"));
  assert.equal(untilAt("2026-01-01T10:20Z"), ns("2026-01-01T10:20:00Z"));
  assert.equal(untilAt("2026-01-01Z"), ns("2026-01-01T00:00:00Z"));
  assert.equal(untilAt("2026-01-01"), BigInt(new Date(2026, 0, 1).getTime()) * 1_000_000n);
});

test("anything but a single time is refused", () => {
  for (const wrong of ["", "soon", "2026-13-45", "2026-02-30", "2026-01-01T24:00", "10 m"]) {
    assert.throws(() => untilAt(wrong), {
      kind: "invalid",
      message: /^failed to parse value as time or duration/,
    });
  }
  assert.throws(() => untilAt("1h", "2h"), { message: "more than one until filter specified" });
  assert.equal(untilOf(new Filters({}, ["until"]), nowMs), undefined);
});

test("a duration of more nanoseconds than 64 bits have is refused", () => {
  for (const wrong of ["3000000h", `${"9".repeat(400)}h`]) {
    assert.throws(() => untilAt(wrong), { kind: "invalid" });
  }
});
