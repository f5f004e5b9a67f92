import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { parseDurationMs, parseMoment } from "./moments.ts";

const now = Date.UTC(2025, 5, 1, 12);

describe("a point in time", () => {
  for (const [text, expected] of [
    ["10m", now - 600_000],
    ["1h30m", now - 5_400_000],
    ["1735689600", Date.UTC(2025, 0, 1)],
    ["1735689600.5", Date.UTC(2025, 0, 1) + 500],
    ["2025-01-01T00:00:00Z", Date.UTC(2025, 0, 1)],
    ["2025-01-01T01:00:00.123456789+01:00", Date.UTC(2025, 0, 1) + 123],
    ["2025-01-01T10:20", new Date(2025, 0, 1, 10, 20).getTime()],
    ["2025-01-01", new Date(2025, 0, 1).getTime()],
  ] as const) {
    it(text, () => {
      assert.equal(parseMoment(text, now), expected);
    });
  }

  for (const text of [
    "",
    "yesterday",
    "10",
    "2025-13-01",
    "2025-01-01 00:00",
    "1d",
    "9".repeat(400),
    `${"9".repeat(400)}h`,
    "3000000h",
  ]) {
    it(`${JSON.stringify(text)} is ${text === "10" ? "a time of 1970" : "refused"}`, () => {
      if (text === "10") {
        assert.equal(parseMoment(text, now), 10_000);
      } else {
        assert.throws(() => parseMoment(text, now), { kind: "invalid" });
      }
    });
  }
});

describe("a duration", () => {
  it("has Go's format", () => {
    assert.equal(parseDurationMs("1.5s"), 1500);
    assert.equal(parseDurationMs("2us"), 0.002);
    assert.equal(parseDurationMs("0"), 0);
    assert.equal(parseDurationMs("1"), undefined);
    assert.equal(parseDurationMs("s"), undefined);
  });
});
