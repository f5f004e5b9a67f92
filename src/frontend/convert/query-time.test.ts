import assert from "node:assert/strict";
import { test } from "node:test";

import { parseQueryTime } from "./query-time.ts";

test("Unix seconds with any fraction, and RFC 3339, are nanoseconds", () => {
  for (const [text, expected] of [
    ["", undefined],
    ["0", 0n],
    ["1700000000", 1_700_000_000_000_000_000n],
    ["1700000000.000000001", 1_700_000_000_000_000_001n],
    ["1700000000.5", 1_700_000_000_500_000_000n],
    ["1700000000.1234567891", 1_700_000_000_123_456_789n],
    ["2023-11-14T22:13:20Z", 1_700_000_000_000_000_000n],
    ["2023-11-14T23:13:20.000000007+01:00", 1_700_000_000_000_000_007n],
  ] as const) {
    assert.equal(parseQueryTime(text), expected, text);
  }
});

test("what is no time is refused", () => {
  for (const text of ["yesterday", "1.5.2", "2023-11-14", "2023-13-14T22:13:20Z", "99999999999999", "1e9"]) {
    assert.throws(() => parseQueryTime(text), { kind: "invalid" }, text);
  }
  for (const text of ["1.x", "x.5"]) {
    assert.throws(() => parseQueryTime(text), { message: 'strconv.ParseInt: parsing "x": invalid syntax' });
  }
});

test("a long text is refused unread, and not repeated whole", () => {
  assert.throws(
    () => parseQueryTime("9".repeat(1_000_000)),
    ({ message }: Error) => message.length < 200 && message.endsWith("value out of range"),
  );
});
