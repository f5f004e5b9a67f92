import assert from "node:assert/strict";
import { test } from "node:test";

import { NonInteger, parseJson } from "./json-body.ts";

test("integers of 64 bits are exact, and a number that is written otherwise stays as written", () => {
  assert.deepEqual(parseJson('{"a":[9007199254740993,-9223372036854775808,18446744073709551615,7]}'), {
    a: [9_007_199_254_740_993n, -9_223_372_036_854_775_808n, 18_446_744_073_709_551_615n, 7],
  });
  for (const source of ["1000.0", "1e3", "-0.5", "1e400", "9".repeat(1_000_000)]) {
    assert.deepEqual(parseJson(`[${source}]`), [new NonInteger(source)]);
  }
});
