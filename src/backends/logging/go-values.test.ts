import assert from "node:assert/strict";
import { test } from "node:test";

import { parseBinarySize, parseDecimalSize } from "./go-values.ts";

test("a size is read as Go reads it", () => {
  assert.equal(parseDecimalSize("10m"), 10_000_000n);
  assert.equal(parseBinarySize("1.5 GiB"), 1_610_612_736n);
  assert.equal(parseBinarySize("7"), 7n);
  assert.equal(parseDecimalSize("1.kb"), 1000n);
  for (const text of ["", "x", "1x", "1mm", "1 1k", "1.1.1k", ". k"]) {
    assert.throws(() => parseDecimalSize(text), /invalid|strconv/);
  }
});

test("a size of megabytes is refused before long", () => {
  const long = 4 * 1024 ** 2;
  for (const text of [`${"a".repeat(long)}1`, `${"1".repeat(long)} 1`, "a".repeat(long), "1.".repeat(long)]) {
    assert.throws(() => parseBinarySize(text));
  }
});
