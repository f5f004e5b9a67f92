import assert from "node:assert/strict";
import { test } from "node:test";

import { resolvableNames } from "./host-names.ts";

test("names that no resolver can be asked for are left out, and of equal ones all but one", () => {
  const longest = "n".repeat(253);
  assert.deepEqual(resolvableNames(["web", "", longest, `${longest}n`, "web"]), ["web", longest]);
});
