/** Loops, matrices and sweeps that `npm run soak` runs whole, and `npm test` in a sample. */

/** Whether this run is the soak. */
export const isSoak = process.env["SOCKERLESS_SOAK"] === "1";

/** Options of a test or suite that only the soak runs. */
export const inSoak = { skip: isSoak ? false : "only in the soak: npm run soak" } as const;

/** Options of a test that is in the sample of `npm test`, or else only in the soak. */
export function sampled(isInSample: boolean): { readonly skip: string | false } {
  return isInSample ? { skip: false } : inSoak;
}
