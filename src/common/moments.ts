/** Durations, and points in time in the formats of Docker's flags. */
import { invalid } from "./errors.ts";

const durationPart = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gy;
const durationForm = /^(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;
const msPerUnit: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};
/** Exclusive upper bound in milliseconds of a duration: its nanoseconds have 64 bits. */
const longestMs = Number(2n ** 63n / 1_000_000n);
const unixForm = /^[+-]?\d{1,18}(?:\.\d+)?$/;
/** A date, or a time down to the hour, minute, second or fraction, in a given zone or the machine's. */
const dateForm = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?)?(Z|[+-]\d\d:\d\d)?$/i;

/** Parses a Go duration (`1h30m`, `1.5s`) to milliseconds; undefined for anything else. */
export function parseDurationMs(text: string): number | undefined {
  const unsigned = text.replace(/^[+-]/, "");
  if (unsigned === "0") {
    return 0;
  }
  if (!durationForm.test(unsigned)) {
    return undefined;
  }
  const parts = [...unsigned.matchAll(durationPart)];
  const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * (msPerUnit[unit ?? ""] ?? 0), 0);
  return ms < longestMs ? (text.startsWith("-") ? -ms : ms) : undefined;
}

/**
 * Converts a text in one of Docker's formats to milliseconds since the epoch: a Go duration before now, Unix seconds,
 * or RFC 3339 and parts of it; undefined for any other.
 *
 * @param nowMs the time that durations count back from
 */
export function momentOf(text: string, nowMs: number): number | undefined {
  const ago = text === "0" ? undefined : parseDurationMs(text);
  if (ago !== undefined) {
    return Math.floor((nowMs - ago) / 1_000) * 1_000;
  }
  if (unixForm.test(text)) {
    return Number(text) * 1_000;
  }
  const found = dateForm.exec(text);
  if (found === null) {
    return undefined;
  }
  const [, date = "", hour = "00", minute = "00", second = "00", zone = ""] = found;
  const at = Date.parse(`${date}T${hour}:${minute}:${second}${zone.toUpperCase()}`);
  if (Number.isNaN(at) || hour === "24") {
    return undefined;
  }
  // JavaScript reads the 30th of February as the 2nd of March.
  return new Date(`${date}T00:00Z`).toISOString().startsWith(date) ? at : undefined;
}

/** As {@link momentOf}. @throws invalid for any other text */
export function parseMoment(text: string, nowMs: number): number {
  const at = momentOf(text, nowMs);
  if (at === undefined) {
    throw invalid(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
  }
  return at;
}
