/** Checks of `sockerless doctor` in AWS: those of the backend's start. */
import { systemClock } from "../../common/clock.ts";
import type { EcsConfig } from "../../common/config/load.ts";
import type { Logger } from "../../common/logger.ts";
import type { StartCheck } from "../cloud/contract/platform.ts";
import { createAwsClients } from "./aws/clients.ts";
import { parseRates } from "./aws/configured-rates.ts";
import { ecsChecks } from "./start-checks.ts";

/** The checks; they change nothing. */
export function doctorChecks(
  { ecs: config }: EcsConfig,
  logger: Logger,
): { readonly checks: readonly StartCheck[]; close(): void } {
  const { region, endpoint, apiRates } = config;
  const aws = createAwsClients({ region, endpoint, rates: parseRates(apiRates), clock: systemClock, logger });
  return { checks: ecsChecks(config, aws, logger), close: () => aws.close() };
}
