import { parseRates as readRates } from "../../cloud/calls/configured-rates.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";
import { defaultRates, type RateName } from "./rates.ts";

/** Parses `ecs.api_rates`: `run-task=100/40`. @throws as {@link readRates} */
export function parseRates(settings: readonly string[]): Partial<Record<RateName, Rate>> {
  return readRates("ecs.api_rates", defaultRates, settings);
}
