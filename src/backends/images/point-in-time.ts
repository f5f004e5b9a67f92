/** Points in time in Docker's filters: `10m` ago, a date, RFC 3339, or seconds since the epoch. */
import { invalid } from "../../common/errors.ts";

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

const durationPart = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g;
const wholeDuration = /^(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/;
const dateTime =
  /^(\d{4}-\d{2}-\d{2})(?:T(\d{2})(?::(\d{2})(?::(\d{2})(\.\d{1,9})?)?)?)?(Z|[+-]\d{2}:\d{2})?$/;
const unixSeconds = /^-?\d+(?:\.\d+)?$/;

/** Exclusive upper bound in milliseconds of a duration, and of a time's distance from 1970: nanoseconds have 64 bits. */
const longestMs = Number(2n ** 63n / 1_000_000n);

/** Parses a Go duration (`1h30m`, `1.5s`) to milliseconds; undefined for anything else. */
export function parseDurationMs(text: string): number | undefined {
  const sign = text.startsWith("-") ? -1 : 1;
  const unsigned = text.replace(/^[+-]/, "");
  if (unsigned === "0") {
    return 0;
  }
  if (!wholeDuration.test(unsigned)) {
    return undefined;
  }
  let total = 0;
  for (const [, number, unit] of unsigned.matchAll(durationPart)) {
    total += Number(number) * (unitMs[unit ?? ""] ?? Number.NaN);
  }
  return total < longestMs ? sign * total : undefined;
}

/**
 * Parses a point in time to milliseconds since the epoch; a date without an offset is in this process' time zone.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parsePointInTimeMs(text: string, nowMs: number): number {
  const ago = parseDurationMs(text);
  if (ago !== undefined && text !== "0") {
    return nowMs - ago;
  }
  if (unixSeconds.test(text) && Math.abs(Number(text)) * 1000 < longestMs) {
    return Number(text) * 1000;
  }
  const parts = dateTime.exec(text);
  if (parts !== null) {
    const [, day, hour = "00", minute = "00", second = "00", fraction = "", zone = ""] = parts;
    const time = Date.parse(`${day}T${hour}:${minute}:${second}${fraction.slice(0, 4)}${zone}`);
    if (!Number.isNaN(time)) {
      return time;
    }
  }
  throw invalid(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
}
