/** Regular expressions of clients, in RE2's syntax and with bounds on their work. */
import { createRequire } from "node:module";

import type { RE2JS } from "re2js";

import { invalid, unavailable } from "../../common/errors.ts";

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

/** The most characters of a text times those of an expression: on the worst of both a step takes 0.15 µs. */
const mostSteps = 4_000_000;

/** CPU time that matching may take at once, in milliseconds, and in each second after that. */
const burstMs = 500;
const perSecondMs = 100;

/** The CPU time that is left to the filters of all clients: a thread that matches answers nobody. */
export class MatchingTime {
  #leftMs = burstMs;
  #atMs = performance.now();

  /**
   * Runs a match.
   *
   * @throws invalid: it may take more time than there ever is; unavailable: others have taken it
   */
  run(steps: number, match: () => boolean): boolean {
    if (steps > mostSteps) {
      throw invalid("the regular expression takes too long");
    }
    const nowMs = performance.now();
    this.#leftMs = Math.min(burstMs, this.#leftMs + ((nowMs - this.#atMs) / 1_000) * perSecondMs);
    this.#atMs = nowMs;
    if (this.#leftMs < 0) {
      throw unavailable("filters have taken too long: try again in some seconds");
    }
    const before = process.threadCpuUsage();
    const isMatch = match();
    const { user, system } = process.threadCpuUsage(before);
    this.#leftMs -= (user + system) / 1_000;
    return isMatch;
  }
}

export const matchingTime = new MatchingTime();

/** A compiled expression. */
export interface Expression {
  /** Whether it matches part of a text. @throws as {@link MatchingTime.run} */
  test(text: string): boolean;
}

/**
 * Compiles an expression of RE2's syntax, as in Docker: JavaScript's own may take exponential time and block every client.
 * The library is loaded with the first expression: most daemons see none, and it takes more than 1 MB.
 *
 * @throws Error: invalid or too long
 */
export function compileExpression(pattern: string, time = matchingTime): Expression {
  const length = writtenOutLength(pattern);
  if (length > longestExpression) {
    throw new Error(
      `an expression has more than ${longestExpression} characters with its repetitions and classes written out`,
    );
  }
  const expression: RE2JS = (require("re2js") as typeof import("re2js")).RE2JS.compile(pattern);
  return { test: (text) => time.run(text.length * length, () => expression.test(text)) };
}

/**
 * The length of an expression with its repetitions and classes written out, or more: a repeated group may be all of it.
 */
export function writtenOutLength(pattern: string): number {
  let length = pattern.length + classLength * (pattern.match(/\\p/gi)?.length ?? 0) + foldedLength(pattern);
  let times = 1;
  for (const [, before, least = "", most = ""] of pattern.matchAll(/([)}]?)\{(\d+)(?:,(\d*))?\}/g)) {
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
