/** Values of a query string, read as dockerd reads them. */
import { invalid } from "../../common/errors.ts";
import { atoi } from "../../common/go-values.ts";

const falseTexts: ReadonlySet<string> = new Set(["", "0", "no", "false", "none"]);

/** A boolean: anything but nothing, `0`, `no`, `false` and `none` is true. */
export function flag(query: URLSearchParams, name: string): boolean {
  return !falseTexts.has((query.get(name) ?? "").trim().toLowerCase());
}

/** A boolean with a default for when the query does not have it. */
export function flagOr(query: URLSearchParams, name: string, otherwise: boolean): boolean {
  return query.has(name) ? flag(query, name) : otherwise;
}

/** A string; empty if missing. */
export function text(query: URLSearchParams, name: string): string {
  return query.get(name) ?? "";
}

/**
 * An integer, clamped to 32 bits.
 *
 * @returns undefined if missing or empty
 * @throws SockerlessError of kind `invalid`
 */
export function integer(query: URLSearchParams, name: string): number | undefined {
  const value = text(query, name);
  if (value === "") {
    return undefined;
  }
  return Math.max(-0x8000_0000, Math.min(0x7fff_ffff, atoi(value, `invalid value for ${name}`)));
}

/**
 * A height or width of a terminal.
 *
 * @param title its name in the error message (`height`)
 * @throws SockerlessError of kind `invalid`
 */
export function terminalSize(query: URLSearchParams, name: string, title: string): number {
  const value = text(query, name);
  if (!/^-?\d+$/.test(value)) {
    throw invalid(`invalid resize ${title} ${JSON.stringify(value)}: invalid syntax`);
  }
  const number = Number(value);
  if (number < 0 || number > 0xffff_ffff) {
    throw invalid(`invalid resize ${title} ${JSON.stringify(value)}: value out of range`);
  }
  return number;
}
