import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isFullId, newId, randomName, shortId } from "./ids.ts";
import { adjectives, surnames } from "./name-words.ts";

describe("ids", () => {
  it("are 64 hexadecimal digits and differ", () => {
    const ids = Array.from({ length: 100 }, newId);
    assert.ok(ids.every(isFullId));
    assert.equal(new Set(ids).size, ids.length);
  });

  it("have a short form of twelve digits, without the algorithm", () => {
    const id = newId();
    assert.equal(shortId(id), id.slice(0, 12));
    assert.equal(shortId(`sha256:${id}`), id.slice(0, 12));
  });

  it("are full only with all their digits, in lower case", () => {
    assert.ok(!isFullId("abc"));
    assert.ok(!isFullId("A".repeat(64)));
    assert.ok(!isFullId(`${"a".repeat(64)}\n`));
  });
});

describe("random names", () => {
  it("are legal container names", () => {
    for (const word of [...adjectives, ...surnames]) {
      assert.match(word, /^[a-z]+$/);
    }
    assert.match(randomName(), /^[a-z]+_[a-z]+$/);
  });

  it("repeat no word, so that the lists are as long as they look", () => {
    assert.equal(new Set(adjectives).size, adjectives.length);
    assert.equal(new Set(surnames).size, surnames.length);
  });

  it("get a digit once the first was taken", () => {
    assert.match(randomName(1), /^[a-z]+_[a-z]+[0-9]$/);
  });
});
