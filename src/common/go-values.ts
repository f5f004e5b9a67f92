/** Values in texts, with the syntax and the error messages of Go, which dockerd shows to users. */

import { invalid, messageOf } from "./errors.ts";

const decimal = 1000;
const binary = 1024;
const units = "bkmgtp";
const largest = Number.MAX_SAFE_INTEGER;

/** A size such as `10m`, `1.5 GiB` or `512kb` in powers of 1000, as for `max-size`. @throws Error in Go's words */
export function parseDecimalSize(text: string): bigint {
  return parseSize(text, decimal);
}

/** Like {@link parseDecimalSize}, but in powers of 1024, as for `max-buffer-size`. @throws Error */
export function parseBinarySize(text: string): bigint {
  return parseSize(text, binary);
}

function parseSize(text: string, base: number): bigint {
  // No regular expression: one anchored at the end would be tried from each position of a text that may have megabytes.
  let end = text.length;
  while (end > 0 && !"0123456789. ".includes(text.charAt(end - 1))) {
    end -= 1;
  }
  const number = text.slice(0, end);
  const suffix = text.slice(end).toLowerCase();
  if (number === "") {
    throw new Error(`invalid size: '${text}'`);
  }
  const bare = number.endsWith(" ") ? number.slice(0, -1) : number;
  if (!/^[+-]?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?$/i.test(bare)) {
    throw new Error(`strconv.ParseFloat: parsing ${JSON.stringify(bare)}: invalid syntax`);
  }
  const size = Number(bare);
  if (size < 0) {
    throw new Error(`invalid size: '${text}'`);
  }
  const power = suffix === "" ? 0 : units.indexOf(suffix.charAt(0));
  if (power < 0 || !(power === 0 ? ["", "b"] : ["", "b", "ib"]).includes(suffix.slice(power === 0 ? 0 : 1))) {
    throw new Error(`invalid suffix: '${suffix}'`);
  }
  return BigInt(Math.floor(Math.min(size * base ** power, largest)));
}

/** The most characters of a value in an error. */
const longestShown = 64;

/** Parses an integer of 64 bits like Go's `strconv.Atoi`; one beyond 2^53 is not exact. @throws Error in Go's words */
export function parseInteger(text: string): number {
  const isNumber = /^[+-]?[0-9]+$/.test(text);
  if (!isNumber || !isInt64(text)) {
    const reason = isNumber ? "value out of range" : "invalid syntax";
    throw new Error(`strconv.Atoi: parsing ${JSON.stringify(shortened(text))}: ${reason}`);
  }
  return Number(text);
}

/** A value in an error: of a long one the first characters. */
export function shortened(text: string): string {
  return text.length > longestShown ? `${text.slice(0, longestShown)}…` : text;
}

function isInt64(digits: string): boolean {
  const short = digits.replace(/^\+/, "").replace(/^(-?)0+(?=\d)/, "$1");
  return short.length <= longestShown && BigInt.asIntN(64, BigInt(short)) === BigInt(short);
}

/**
 * Parses an integer of 64 bits; one beyond 2^53 is not exact.
 *
 * @param failure begins the error's message
 * @throws SockerlessError of kind `invalid` in the words of Go's strconv.Atoi
 */
export function atoi(value: string, failure: string): number {
  try {
    return parseInteger(value);
  } catch (error) {
    throw invalid(`${failure}: ${messageOf(error)}`, error);
  }
}

/** Parses a boolean like Go's `strconv.ParseBool`. @throws Error in Go's words */
export function parseBoolean(text: string): boolean {
  if (["1", "t", "T", "TRUE", "true", "True"].includes(text)) {
    return true;
  }
  if (["0", "f", "F", "FALSE", "false", "False"].includes(text)) {
    return false;
  }
  throw new Error(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
}
