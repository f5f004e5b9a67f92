import assert from "node:assert/strict";
import { test } from "node:test";

import { readFilters } from "./filters.ts";

test("thousands of keys of a filter are refused before their values are read", () => {
  const filters = Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`k${n}`, 0]));
  const query = new URLSearchParams({ filters: JSON.stringify(filters) });
  for (const accepted of [undefined, ["id"]]) {
    assert.throws(() => readFilters(query, accepted), { message: "invalid filter: more than 2048 keys" });
  }
});
