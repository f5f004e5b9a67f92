import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { describeSyntaxError } from "./json-syntax.ts";

test("a syntax error is named as Go's decoder names it", () => {
  // Recorded from Go's encoding/json.
  const cases: readonly (readonly [string, string])[] = [
    ["{", "unexpected EOF"],
    ["{invalid json", "invalid character 'i' looking for beginning of object key string"],
    ['{"a" 1}', "invalid character '1' after object key"],
    ['{"a":}', "invalid character '}' looking for beginning of value"],
    ['{"a":1 "b"', "invalid character '\"' after object key:value pair"],
    ["[1 2]", "invalid character '2' after array element"],
    ['{"a":tru}', "invalid character '}' in literal true (expecting 'e')"],
    ['"a\nb"', "invalid character '\\n' in string literal"],
    ['"\\x"', "invalid character 'x' in string escape code"],
    ['"\\u12g"', "invalid character 'g' in \\u hexadecimal character escape"],
    ["-a", "invalid character 'a' in numeric literal"],
    ["1.x", "invalid character 'x' after decimal point in numeric literal"],
    ["1ex", "invalid character 'x' in exponent of numeric literal"],
    ["'a'", "invalid character '\\'' looking for beginning of value"],
    ["[1,]", "invalid character ']' looking for beginning of value"],
  ];
  for (const [source, expected] of cases) {
    assert.equal(describeSyntaxError(source), expected, source);
  }
});

test("what is valid has no error, with or without something behind it", () => {
  fc.assert(
    fc.property(fc.json(), (source) => {
      assert.equal(describeSyntaxError(source), undefined);
      assert.equal(describeSyntaxError(`${source} {`), undefined);
    }),
  );
});

test("what JSON.parse refuses is refused here too", () => {
  fc.assert(
    fc.property(
      fc.json(),
      fc.nat(),
      fc.constantFrom("", "x", ",", "}", '"'),
      (source, position, inserted) => {
        const at = position % (source.length + 1);
        const broken = source.slice(0, at) + inserted + source.slice(at + 1);
        let refusal: unknown;
        try {
          JSON.parse(broken);
        } catch (error) {
          refusal = error;
        }
        const trailing = refusal instanceof Error && /after JSON/.test(refusal.message);
        assert.equal(describeSyntaxError(broken) !== undefined, refusal !== undefined && !trailing, broken);
      },
    ),
  );
});

test("nesting without an end is an error like any other", () => {
  assert.equal(describeSyntaxError("[".repeat(1_000_000)), "unexpected EOF");
  assert.equal(describeSyntaxError('{"a":'.repeat(1_000_000)), "unexpected EOF");
});
