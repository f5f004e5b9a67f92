/** The filter `until` of a prune: what is newer is spared. */
import { invalid } from "../../../common/errors.ts";
import type { Filters } from "./filters.ts";

const nsPerMs = 1_000_000n;
const durationPart = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gy;
const durationForm = /^[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;
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
const unixForm = /^[+-]?\d{1,18}(?:\.\d+)?$/;
/** A date, or a time to the hour, minute, second or fraction, in a named zone or the machine's. */
const dateForm = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?)?(Z|[+-]\d\d:\d\d)?$/i;

/**
 * The time that the filter names, in nanoseconds since the epoch.
 *
 * @param nowMs what durations count back from
 * @returns undefined where the filter is not given
 * @throws invalid: several, or none that is a time
 */
export function untilOf(filters: Filters, nowMs: number): bigint | undefined {
  if (!filters.has("until")) {
    return undefined;
  }
  const [text = "", ...others] = filters.get("until");
  if (others.length > 0) {
    throw invalid("more than one until filter specified");
  }
  const at = momentOf(text, nowMs);
  if (at === undefined || Number.isNaN(at)) {
    throw invalid(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
  }
  return BigInt(Math.round(at * 1_000)) * (nsPerMs / 1_000n);
}

/** Milliseconds since the epoch of Docker's forms: a Go duration before now, Unix seconds, RFC 3339 and parts of it. */
function momentOf(text: string, nowMs: number): number | undefined {
  if (durationForm.test(text)) {
    const parts = [...text.replace(/^[+-]/, "").matchAll(durationPart)];
    const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * (msPerUnit[unit ?? ""] ?? 0), 0);
    return Math.floor((nowMs - (text.startsWith("-") ? -ms : ms)) / 1_000) * 1_000;
  }
  if (unixForm.test(text)) {
    return Number(text) * 1_000;
  }
  const found = dateForm.exec(text);
  if (found === null) {
    return undefined;
  }
  const [, date, hour = "00", minute = "00", second = "00", zone = ""] = found;
  return Date.parse(`${date}T${hour}:${minute}:${second}${zone.toUpperCase()}`);
}
