/** Values as Go marshals them: null, omitted fields and the format of times. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";

/** A nil slice is `null`. */
export function listOrNull<Value>(list: readonly Value[]): readonly Value[] | null {
  return list.length === 0 ? null : list;
}

/** A nil map is `null`. */
export function mapOrNull<Value>(
  map: Readonly<Record<string, Value>>,
): Readonly<Record<string, Value>> | null {
  return Object.keys(map).length === 0 ? null : map;
}

/** `omitempty` of a string. */
export function unlessEmpty(text: string): string | undefined {
  return text === "" ? undefined : text;
}

/** `omitempty` of a number. */
export function unlessZero<Value extends number | bigint>(value: Value): Value | undefined {
  return Number(value) === 0 ? undefined : value;
}

/** `omitempty` of a map. */
export function unlessNoKeys<Value>(
  map: Readonly<Record<string, Value>>,
): Readonly<Record<string, Value>> | undefined {
  return Object.keys(map).length === 0 ? undefined : map;
}

/** A set in Go's manner: a map to empty objects. */
export function setOf(keys: readonly string[]): Record<string, Record<string, never>> {
  return Object.fromEntries(keys.toSorted().map((key) => [key, {}]));
}

/** Go's text for the zero time. */
export const zeroTime = "0001-01-01T00:00:00Z";

/** Unix seconds of the first and the last instant that RFC 3339 can write: years 1 to 9999. */
const firstSecond = -62_135_596_800n;
const lastSecond = 253_402_300_799n;

/** RFC 3339 with as many decimals as needed, up to nanoseconds. */
export function rfc3339Nano(time: Timestamp | undefined): string {
  if (time === undefined || !isWritable(time)) {
    return zeroTime;
  }
  const decimals = time.nanos.toString().padStart(9, "0").replace(/0+$/, "");
  return `${withoutDecimals(time)}${decimals === "" ? "" : `.${decimals}`}Z`;
}

/** RFC 3339 in whole seconds. */
export function rfc3339(time: Timestamp | undefined): string {
  return time === undefined || !isWritable(time) ? zeroTime : `${withoutDecimals(time)}Z`;
}

/** True if RFC 3339 can express a time, years 1 to 9999: an agent may send anything. */
function isWritable({ seconds, nanos }: Timestamp): boolean {
  return seconds >= firstSecond && seconds <= lastSecond && nanos >= 0 && nanos < 1_000_000_000;
}

/** A time as Unix seconds; 0 if unset. */
export function unixSeconds(time: Timestamp | undefined): number {
  return time === undefined ? 0 : Number(time.seconds);
}

/** A time in milliseconds since the epoch. */
export function milliseconds(time: Timestamp): number {
  return Number(time.seconds) * 1000 + time.nanos / 1_000_000;
}

function withoutDecimals(time: Timestamp): string {
  return new Date(Number(time.seconds) * 1000).toISOString().slice(0, 19);
}
