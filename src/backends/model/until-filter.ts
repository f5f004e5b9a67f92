/** The filter `until` of a prune: what is newer is spared. */
import { invalid } from "../../common/errors.ts";
import { momentOf } from "../../common/moments.ts";
import type { Filters } from "./filters.ts";

const nsPerMs = 1_000_000n;

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
  if (at === undefined) {
    throw invalid(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
  }
  return BigInt(Math.round(at * 1_000)) * (nsPerMs / 1_000n);
}
