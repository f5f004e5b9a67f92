/** Points in time in Docker's filters: `10m` ago, a date, RFC 3339, or seconds since the epoch. */
import { invalid } from "../../common/errors.ts";
import { momentOf } from "../../common/moments.ts";

/**
 * Parses a point in time to milliseconds since the epoch; a date without an offset is in this process' time zone.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parsePointInTimeMs(text: string, nowMs: number): number {
  const at = momentOf(text, nowMs);
  if (at === undefined) {
    throw invalid(`failed to parse value as time or duration: ${JSON.stringify(text)}`);
  }
  return at;
}
