import { createRequire } from "node:module";

import type { RE2JS } from "re2js";

const require = createRequire(import.meta.url);

/**
 * Upper bound of an expression's length, with its repetitions written out: compiling takes time and memory by that, for
 * `.{0,1000}` repeated 400 times 20 seconds.
 */
const longestExpression = 4096;

/** A class of Unicode, such as `\pL`, counts as so many characters: it has hundreds of ranges. */
const classLength = 64;

/** In expressions that ignore case, so many characters of a range count as one: they are folded one by one. */
const foldedPerCharacter = 32;

/**
 * Compiles an expression of RE2's syntax, as in Docker: JavaScript's own may take exponential time and block every client.
 * The library is loaded with the first expression: most daemons see none, and it takes more than 1 MB.
 *
 * @throws Error: invalid or too long
 */
export function compileExpression(pattern: string): RE2JS {
  if (writtenOutLength(pattern) > longestExpression) {
    throw new Error(
      `an expression has more than ${longestExpression} characters with its repetitions and classes written out`,
    );
  }
  return (require("re2js") as typeof import("re2js")).RE2JS.compile(pattern);
}

/**
 * The length of an expression with its repetitions and classes written out, or more: a repeated group may be all of it.
 */
export function writtenOutLength(pattern: string): number {
  let length = pattern.length + classLength * (pattern.match(/\\p/gi)?.length ?? 0) + foldedLength(pattern);
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

/** The length that ranges add to an expression that ignores case; those within ASCII add none. */
function foldedLength(pattern: string): number {
  if (!/\(\?[a-z-]*i/i.test(pattern)) {
    return 0;
  }
  let characters = 0;
  for (const [, hex, last = ""] of pattern.matchAll(/-(?:\\x\{([\da-f]+)\}|([^\0-\x7f]))/giu)) {
    characters += hex === undefined ? (last.codePointAt(0) ?? 0) : Number.parseInt(hex, 16);
  }
  return Math.floor(characters / foldedPerCharacter);
}
