import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { globMatcher } from "./glob.ts";

describe("a pattern", () => {
  for (const [pattern, text, expected] of [
    ["nginx", "nginx", true],
    ["nginx", "nginx:latest", false],
    ["ng*", "nginx", true],
    ["*", "a/b", false],
    ["*/*", "a/b", true],
    ["a*c*e", "abcde", true],
    ["a*c*e", "abcdf", false],
    ["*x", "axbx", true],
    ["?", "/", false],
    ["[a-c]x", "bx", true],
    ["[^a-c]x", "bx", false],
    ["[\\]]", "]", true],
    ["\\*", "*", true],
    ["\\*", "x", false],
    ["", "", true],
    ["[c-a]x", "bx", false],
    ["[^c-a]x", "bx", true],
    ["[.\\-^]*", "^a", true],
    ["a.c{2}*", "a.c{2}", true],
    ["a.c*", "abc", false],
    ["ä?/*", "äö/ü", true],
    [`${"*a".repeat(200)}b`, "a".repeat(400), false],
  ] as const) {
    it(`${pattern.slice(0, 20)} ${expected ? "matches" : "does not match"} ${text.slice(0, 20)}`, () => {
      assert.equal(globMatcher([pattern])(text), expected);
    });
  }

  for (const pattern of ["[", "[]", "[a", "[-]", "\\"]) {
    it(`${pattern} is refused`, () => {
      assert.throws(() => globMatcher([pattern]), { kind: "invalid", message: "syntax error in pattern" });
    });
  }
});

it("several patterns are one expression, of bounded length; names are not counted", () => {
  const matches = globMatcher(["a*", "b?", "name"]);
  assert.deepEqual(["ax", "bx", "name", "b"].map(matches), [true, true, true, false]);
  const long = Array.from({ length: 20 }, (_, n) => `*${"[a-z]".repeat(50)}${n}`);
  assert.throws(() => globMatcher(long), { kind: "invalid" });
  assert.equal(globMatcher(Array.from({ length: 2000 }, (_, n) => `name-${n}`))("name-1999"), true);
});
