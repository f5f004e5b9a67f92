import { invalid } from "../../../common/errors.ts";
import { nearestName } from "../../../common/config/nearest-name.ts";
import { defaultRates, type RateName } from "./rates.ts";
import type { Rate } from "../../common/cloud/token-bucket.ts";

/**
 * Reads `ecs.api_rates`: `run-task=100/40`.
 *
 * @throws invalid: a rate that there is not, with the nearest name, or one that lets nothing through
 */
export function parseRates(settings: readonly string[]): Partial<Record<RateName, Rate>> {
  const rates: Partial<Record<RateName, Rate>> = {};
  for (const setting of settings) {
    const [name = "", value = ""] = setting.split("=");
    if (!isRateName(name)) {
      const meant = nearestName(name, Object.keys(defaultRates));
      const hint = meant === undefined ? "" : `: did you mean ${meant}?`;
      throw invalid(`configuration: ecs.api_rates: there is no rate ${name}${hint}`);
    }
    const [burst = 0, perSecond = 0] = value.split("/").map(Number);
    if (!(burst >= 1 && perSecond > 0)) {
      throw invalid(`configuration: ecs.api_rates: ${setting} lets no call through`);
    }
    rates[name] = { burst, perSecond };
  }
  return rates;
}

function isRateName(name: string): name is RateName {
  return Object.hasOwn(defaultRates, name);
}
