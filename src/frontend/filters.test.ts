import assert from "node:assert/strict";
import { test } from "node:test";

import { readFilters } from "./filters.ts";

test("unknown keys of a filter, and thousands of them, are refused before their values are read", () => {
  const filters = Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`k${n}`, 0]));
  const query = new URLSearchParams({ filters: JSON.stringify(filters) });
  assert.throws(() => readFilters(query, ["id"]), { message: "invalid filter 'k0'" });
  assert.throws(() => readFilters(query), { message: "invalid filter: more than 2048 keys" });
});
