import assert from "node:assert/strict";
import { it } from "node:test";

import { LayerStacks } from "./layer-stacks.ts";

it("stacks of layers are counted while images have them, each with all below it", () => {
  const stacks = new LayerStacks();
  const [one, two, three] = [
    ["a", "b", "b"],
    ["a", "b", "c"],
    ["b", "a"],
  ];
  const counts = () => [one, two, three].map((each) => stacks.of(each ?? []).map(({ images }) => images));
  for (const each of [one, two, three]) {
    stacks.replace(undefined, each);
  }
  assert.deepEqual(counts(), [
    [2, 2, 1],
    [2, 2, 1],
    [1, 1],
  ]);
  assert.equal(stacks.of(one ?? [])[1], stacks.of(two ?? [])[1]);
  stacks.replace(two, [...(two ?? [])]);
  assert.deepEqual(counts()[1], [2, 2, 1]);
  stacks.replace(one, undefined);
  stacks.replace(three, ["b"]);
  assert.deepEqual(counts(), [[1, 1], [1, 1, 1], [1]]);
});
