/** Pauses between retries. */

/** Growth of the pause from one failure to the next. */
export interface PauseGrowth {
  readonly firstMs: number;
  readonly longestMs: number;
  /** Factor from one pause to the next; default 2. */
  readonly factor?: number;
}

/** The pause after this many failures in a row, in milliseconds. @param failures at least 1 */
export function pauseAfter(failures: number, { firstMs, longestMs, factor = 2 }: PauseGrowth): number {
  return Math.min(firstMs * factor ** (failures - 1), longestMs);
}
