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
    [`${"*a".repeat(200)}b`, "a".repeat(400), false],
  ] as const) {
    it(`${pattern.slice(0, 20)} ${expected ? "matches" : "does not match"} ${text.slice(0, 20)}`, () => {
      assert.equal(globMatcher(pattern)(text), expected);
    });
  }

  for (const pattern of ["[", "[]", "[a", "[-]", "\\"]) {
    it(`${pattern} is refused`, () => {
      assert.throws(() => globMatcher(pattern), { kind: "invalid", message: "syntax error in pattern" });
    });
  }
});
