/** Clocks that differ: a cloud refuses what was signed, or is proved by a certificate, at a time that it does not share. */

/** AWS takes signatures that are five minutes off; answers are some seconds under way. */
const tellsFromMs = 4 * 60_000;

/**
 * A clause for users about this machine's clock, to be added to a refusal.
 *
 * @param date header `Date` of the answer
 * @param code Node's, where there was no answer
 * @returns empty: the clocks agree, or nobody knows
 */
export function clockClause(date: string | undefined, code: string, nowMs = Date.now()): string {
  if (code === "CERT_NOT_YET_VALID" || code === "CERT_HAS_EXPIRED") {
    return `; by this machine's clock it is ${new Date(nowMs).toISOString()}: set it, if that is wrong`;
  }
  const aheadMs = nowMs - Date.parse(date ?? "");
  if (!(Math.abs(aheadMs) >= tellsFromMs)) {
    return "";
  }
  const minutes = Math.round(Math.abs(aheadMs) / 60_000);
  return `; this machine's clock is ${minutes} minutes ${aheadMs > 0 ? "ahead of" : "behind"} the cloud's: set it`;
}
