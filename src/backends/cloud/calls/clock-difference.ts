/** Wrong clocks: a cloud refuses signatures and certificates from a time too far from its own. */

/** AWS accepts signatures that are five minutes off; answers take some seconds. */
const tellsFromMs = 4 * 60_000;

/**
 * A clause for users about this machine's clock, to be appended to an error.
 *
 * @param date header `Date` of the answer
 * @param code Node's error code, if there was no answer
 * @returns empty if the clocks agree, or the difference is unknown
 */
export function clockClause(date: string | undefined, code: string): string {
  const nowMs = Date.now();
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
