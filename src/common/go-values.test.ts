import assert from "node:assert/strict";
import { test } from "node:test";

import { parseBinarySize, parseDecimalSize, parseInteger } from "./go-values.ts";

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

test("an integer is read as Go reads it", () => {
  for (const [text, value] of [
    ["0", 0],
    ["+7", 7],
    ["-0012", -12],
    ["9223372036854775807", 2 ** 63],
  ] as const) {
    assert.equal(parseInteger(text), value);
  }
  for (const text of ["", "x", "1.0", "1e3", " 1", "0x1", "٣"]) {
    assert.throws(() => parseInteger(text), /^Error: strconv\.Atoi: parsing ".*": invalid syntax$/);
  }
  for (const text of ["9223372036854775808", "-9223372036854775809", "9".repeat(4 * 1024 ** 2)]) {
    assert.throws(
      () => parseInteger(text),
      /^Error: strconv\.Atoi: parsing "-?9[0-9]{18,63}…?": value out of range$/,
    );
  }
});
