/** The published rates of all services, per account and region. */
import type { Rate } from "../rates.ts";

/** Every rate that is simulated. */
export const publishedRates: readonly Rate[] = [];
