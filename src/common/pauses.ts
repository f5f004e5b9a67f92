/** Pauses between tries. */

/** The growth of pauses from one failure to the next. */
export interface PauseGrowth {
  readonly firstMs: number;
  readonly longestMs: number;
  /** Factor from one pause to the next; absent: twice as long each time. */
  readonly factor?: number;
}

/** The pause after so many failures in a row, in milliseconds. @param failures 1: the first */
export function pauseAfter(failures: number, { firstMs, longestMs, factor = 2 }: PauseGrowth): number {
  return Math.min(firstMs * factor ** (failures - 1), longestMs);
}
