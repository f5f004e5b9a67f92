/** From single runs to what stands in a table. */

/** One figure: the mean of a measure's repetitions. */
export async function figureOf<Target>(
  { repeat, run }: { readonly repeat: number; run(target: Target): Promise<number> },
  target: Target,
): Promise<number> {
  let sum = 0;
  for (let n = 0; n < repeat; n++) {
    sum += await run(target);
  }
  return sum / repeat;
}

/** The median, with the least and the most. */
export function spread(figures: readonly number[]): string {
  return `${round(median(figures))} (${round(Math.min(...figures))} … ${round(Math.max(...figures))})`;
}

export function median(figures: readonly number[]): number {
  return percentile(figures, 0.5);
}

/** The figure below which a share of them lies. @param share below 1 */
export function percentile(figures: readonly number[], share: number): number {
  return figures.toSorted((a, b) => a - b)[Math.floor(figures.length * share)] ?? Number.NaN;
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
