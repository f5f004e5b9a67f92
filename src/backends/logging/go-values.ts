/** Values of log options, with Go's syntax and error messages, which dockerd shows to users. */

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

/** Parses an integer like Go's `strconv.Atoi`. @throws Error in Go's words */
export function parseInteger(text: string): number {
  if (!/^[+-]?[0-9]+$/.test(text)) {
    throw new Error(`strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  }
  const value = Number(text);
  if (!Number.isSafeInteger(value)) {
    throw new Error(`strconv.Atoi: parsing ${JSON.stringify(text)}: value out of range`);
  }
  return value;
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
