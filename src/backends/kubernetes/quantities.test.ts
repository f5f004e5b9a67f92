import assert from "node:assert/strict";
import { test } from "node:test";

import { numberIn } from "./quantities.ts";

test("quantities are read with each suffix that Kubernetes has", () => {
  const texts = ["3", "1.5", "1900m", "250u", "16Gi", "1Pi", "2k", "1E", "1e3", "12E2", "none"];
  assert.deepEqual(texts.map(numberIn), [3, 1.5, 1.9, 0.00025, 2 ** 34, 2 ** 50, 2000, 1e18, 1000, 1200, 0]);
});
