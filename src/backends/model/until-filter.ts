/** The `until` filter of a prune, which spares newer objects. */
import { invalid } from "../../common/errors.ts";
import { parseMoment } from "../../common/moments.ts";
import type { Filters } from "./filters.ts";

const nsPerMs = 1_000_000n;

/**
 * The filter's time, in nanoseconds since the epoch.
 *
 * @param nowMs the time that durations count back from
 * @returns undefined without the filter
 * @throws invalid: several values, or not a time
 */
export function untilOf(filters: Filters, nowMs: number): bigint | undefined {
  if (!filters.has("until")) {
    return undefined;
  }
  const [text = "", ...others] = filters.get("until");
  if (others.length > 0) {
    throw invalid("more than one until filter specified");
  }
  return BigInt(Math.round(parseMoment(text, nowMs) * 1_000)) * (nsPerMs / 1_000n);
}
