import assert from "node:assert/strict";
import { test } from "node:test";

import { eventLabels } from "./event-labels.ts";

test("an event has all labels of its object, or none if they are long or many together", () => {
  const labels = { a: "x".repeat(30_000), b: "y".repeat(30_000) };
  assert.equal(eventLabels(labels), labels);
  assert.deepEqual(eventLabels({ ...labels, c: "z".repeat(30_000) }), {});
  assert.deepEqual(eventLabels(undefined), {});
  const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`${n}`, ""]));
  assert.deepEqual(eventLabels(many), {});
});

test("the events of one change have no labels if all of them are long together", () => {
  const labels = { a: "x".repeat(30_000) };
  assert.equal(eventLabels(labels, 30), labels);
  assert.deepEqual(eventLabels(labels, 40), {});
});
