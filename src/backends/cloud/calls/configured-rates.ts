import { nearestName } from "../../../common/config/nearest-name.ts";
import { invalid } from "../../../common/errors.ts";
import type { Rate } from "./token-bucket.ts";

/**
 * Parses a setting of rates: `run-task=100/40`.
 *
 * @param setting its name, for messages
 * @param defaults the known rates
 * @throws invalid: an unknown rate, with the nearest name, or a rate that allows nothing
 */
export function parseRates<Name extends string>(
  setting: string,
  defaults: Readonly<Record<Name, Rate>>,
  values: readonly string[],
): Partial<Record<Name, Rate>> {
  const rates: Partial<Record<Name, Rate>> = {};
  const isRateName = (name: string): name is Name => Object.hasOwn(defaults, name);
  for (const each of values) {
    const [name = "", value = ""] = each.split("=");
    if (!isRateName(name)) {
      const meant = nearestName(name, Object.keys(defaults));
      const hint = meant === undefined ? "" : `: did you mean ${meant}?`;
      throw invalid(`configuration: ${setting}: there is no rate ${name}${hint}`);
    }
    const [burst = 0, perSecond = 0] = value.split("/").map(Number);
    if (!(burst >= 1 && perSecond > 0)) {
      throw invalid(`configuration: ${setting}: ${each} lets no call through`);
    }
    rates[name] = { burst, perSecond };
  }
  return rates;
}
