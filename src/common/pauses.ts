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

/** Half of {@link pauseAfter}, or up to all of it: calls that are refused together do not return together. */
export function unevenPauseAfter(failures: number, growth: PauseGrowth): number {
  return (pauseAfter(failures, growth) * (1 + Math.random())) / 2;
}
