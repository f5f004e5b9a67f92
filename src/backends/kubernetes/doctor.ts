/** Checks of `sockerless doctor` in a cluster: those of the backend's start. */
import { systemClock } from "../../common/clock.ts";
import type { KubernetesConfig } from "../../common/config/load.ts";
import type { Logger } from "../../common/logger.ts";
import type { StartCheck } from "../cloud/contract/platform.ts";
import { KubernetesClient } from "./api/client.ts";
import { kubernetesChecks } from "./start-checks.ts";

/** The checks; they change nothing. */
export function doctorChecks(
  { kubernetes }: KubernetesConfig,
  logger: Logger,
): { readonly checks: readonly StartCheck[]; close(): void } {
  const client = new KubernetesClient(kubernetes, systemClock);
  return { checks: kubernetesChecks(client, logger), close: () => client.abandon() };
}
