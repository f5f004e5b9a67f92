import assert from "node:assert/strict";
import { test } from "node:test";

import { WeightedMap } from "./weighted-map.ts";

test("of entries that are too heavy together, or too many, those give way that were used longest ago", () => {
  const gone: string[] = [];
  const map = new WeightedMap<string, number>(10, (key) => gone.push(key), 3);
  map.set("a", 4, 1);
  map.set("b", 4, 2);
  map.set("a", 6, 3);
  assert.equal(map.get("a"), 3);
  map.set("c", 1, 4);
  assert.deepEqual(gone, ["b"]);
  map.set("d", 1, 5);
  map.set("e", 1, 6);
  assert.deepEqual(gone, ["b", "a"]);
  map.delete("d");
  map.delete("d");
  map.set("f", 8, 7);
  assert.deepEqual(gone, ["b", "a"]);
  map.set("g", 11, 8);
  assert.deepEqual(gone.slice(2), ["c", "e", "f", "g"]);
  assert.equal(map.has("g"), false);
});
