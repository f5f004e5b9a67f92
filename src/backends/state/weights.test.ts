import assert from "node:assert/strict";
import { test } from "node:test";

import { Weights, weightOf } from "./weights.ts";

const small = { text: "x".repeat(2_000) };

/** Adds small records until one is refused, which is taken out again. @returns how many were taken */
function fill(weights: Weights): number {
  for (let n = 0; ; n++) {
    if (weights.set(`${n}`, small) !== undefined) {
      weights.delete(`${n}`);
      return n;
    }
  }
}

test("changes of all records of a kind that is full add 16 MiB together, as many as they are", () => {
  const weights = new Weights("volumes");
  const taken = fill(weights);
  const grown = { text: "x".repeat(60_000) };
  let added = 0;
  for (let n = 0; n < taken; n++) {
    if (weights.set(`${n}`, grown) !== undefined) {
      weights.set(`${n}`, small);
    } else {
      added += weightOf(grown) - weightOf(small);
    }
  }
  assert.ok(added > 15 * 2 ** 20 && added <= 17 * 2 ** 20, `${added} added`);
  assert.equal(weights.set("0", { text: "" }), undefined, "what takes away is no growth");
});

test("a record counts a kibibyte at least, so that a kind has no more than its list can show at once", () => {
  const weights = new Weights("networks");
  let refused = 0;
  for (let n = 0; n < 2 ** 17; n++) {
    refused += weights.set(`${n}`, {}) === undefined ? 0 : 1;
  }
  assert.equal(refused, 2 ** 16);
  assert.equal(weights.set("0", { text: "x".repeat(800) }), undefined, "what stays as light is no growth");
  for (let n = 2 ** 16; n < 2 ** 17; n++) {
    weights.delete(`${n}`);
  }
  assert.match(
    weights.set("more", {}) ?? "",
    /^the networks may hold at most 64 MiB together: remove some first$/,
  );
  weights.delete("more");
  weights.delete("0");
  assert.equal(weights.set("more", {}), undefined);
});

test("records that are read anew may add no more than before", () => {
  const reached = new Weights("volumes");
  for (let n = 0; n < 80; n++) {
    reached.set(`${n}`, { text: "x".repeat(2 ** 20) });
  }
  assert.match(
    reached.set("0", { text: "x".repeat(2 ** 20 + 1) }) ?? "",
    /^the volumes may hold at most 64 MiB/,
  );
});

test("what is made through the Docker socket of one container has an eighth of a kind", () => {
  const weights = new Weights("volumes");
  const large = { text: "x".repeat(2 ** 20) };
  for (let n = 0; n < 7; n++) {
    assert.equal(weights.set(`${n}`, large, "one"), undefined);
  }
  const refused = /^the volumes made through one Docker socket may hold at most 8 MiB together/;
  assert.match(weights.set("more", large, "one") ?? "", refused);
  weights.delete("more");
  assert.match(weights.set("0", { text: large.text.repeat(5) }, "one") ?? "", refused, "by growth");
  assert.equal(weights.set("0", large, "one"), undefined);
  assert.equal(weights.set("another's", large, "two"), undefined);
  assert.equal(weights.set("nobody's", { text: large.text.repeat(9) }), undefined);
  weights.delete("1");
  assert.equal(weights.set("more", large, "one"), undefined);
});
