import { createRequire } from "node:module";

import type { RE2JS } from "re2js";

const require = createRequire(import.meta.url);

/**
 * Upper bound of an expression's length, with its repetitions written out: compiling takes time and memory by that, for
 * `.{0,1000}` repeated 400 times 20 seconds.
 */
const longestExpression = 4096;

/**
 * Compiles an expression of RE2's syntax, as in Docker: JavaScript's own may take exponential time and block every client.
 * The library is loaded with the first expression: most daemons see none, and it takes more than 1 MB.
 *
 * @throws Error: invalid or too long
 */
export function compileExpression(pattern: string): RE2JS {
  if (writtenOutLength(pattern) > longestExpression) {
    throw new Error(
      `an expression has more than ${longestExpression} characters with its repetitions written out`,
    );
  }
  return (require("re2js") as typeof import("re2js")).RE2JS.compile(pattern);
}

/** The length of an expression with its repetitions written out, or more: a repeated group may be all of it. */
export function writtenOutLength(pattern: string): number {
  let length = pattern.length;
  let times = 1;
  for (const [, before, least = "", most = ""] of pattern.matchAll(/([)}]?)\{(\d+),?(\d*)\}/g)) {
    const count = Math.max(1, Number(least), Number(most));
    if (before === "") {
      length += count;
    } else {
      times *= count;
    }
  }
  return length * times;
}
