/** Points in time in the formats of Docker's flags. */

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
/** A date, or a time down to the hour, minute, second or fraction, in a given zone or the machine's. */
const dateForm = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?)?(Z|[+-]\d\d:\d\d)?$/i;

/**
 * Converts a text in one of Docker's formats to milliseconds since the epoch: a Go duration before now, Unix seconds,
 * or RFC 3339 and parts of it; undefined for any other.
 *
 * @param nowMs the time that durations count back from
 */
export function momentOf(text: string, nowMs: number): number | undefined {
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
  const at = Date.parse(`${date}T${hour}:${minute}:${second}${zone.toUpperCase()}`);
  return Number.isNaN(at) ? undefined : at;
}
