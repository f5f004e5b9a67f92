/** Checks of `sockerless doctor` in Azure: those of the backend's start. */
import { systemClock } from "../../common/clock.ts";
import type { AcaConfig } from "../../common/config/load.ts";
import type { DoctorCheck } from "../../common/finding.ts";
import type { Logger } from "../../common/logger.ts";
import { examined } from "../cloud/upkeep/examined.ts";
import { createAzureClients } from "./arm/clients.ts";
import { parseRates } from "./arm/rates.ts";
import { acaChecks } from "./start-checks.ts";

/** The checks; they change nothing. */
export function doctorChecks(
  { aca: config }: AcaConfig,
  logger: Logger,
): { readonly checks: readonly DoctorCheck[]; close(): void } {
  const { subscriptionId, endpoint, apiRates } = config;
  const rates = parseRates(apiRates);
  const azure = createAzureClients({ subscriptionId, endpoint, rates, clock: systemClock, logger });
  return { checks: examined(acaChecks(config, azure, logger)), close: () => azure.abandon() };
}
