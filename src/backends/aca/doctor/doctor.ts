/** Checks of `sockerless doctor` in Azure: those of the backend's start, and what only a first day needs to know. */
import path from "node:path";

import { systemClock } from "../../../common/clock.ts";
import type { AcaConfig } from "../../../common/config/load.ts";
import { isErrorKind, messageOf } from "../../../common/errors.ts";
import { type DoctorCheck, ok, type Result, unknown, warning, wrong } from "../../../common/finding.ts";
import type { Logger } from "../../../common/logger.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { examined } from "../../cloud/upkeep/examined.ts";
import { registryOptions } from "../../server/serve-engine.ts";
import { type AzureClients, createAzureClients } from "../arm/clients.ts";
import { AzureError } from "../arm/errors.ts";
import { parseRates } from "../arm/rates.ts";
import { acaRepository, checkAgentImage, ownAgentImage } from "../images.ts";
import { logAnalyticsLog } from "../logs/log-analytics.ts";
import { repositoryPath } from "../platform.ts";
import { configuredFiles } from "../shares/configured-files.ts";
import { acaChecks } from "../start-checks.ts";
import { rightChecks } from "./rights.ts";

/** The checks; they change nothing. */
export function doctorChecks(
  whole: AcaConfig,
  logger: Logger,
): { readonly checks: readonly DoctorCheck[]; close(): void } {
  const { aca: config } = whole;
  const { subscriptionId, endpoint, apiRates, logAnalyticsWorkspaceId: workspaceId } = config;
  const rates = parseRates(apiRates);
  const azure = createAzureClients({ subscriptionId, endpoint, rates, clock: systemClock, logger });
  const files = configuredFiles(config, azure, systemClock);
  const log = logAnalyticsLog({
    ...{ azure, endpoint: config.logsEndpoint, workspaceId, clock: systemClock },
    container: "doctor",
    streamsOf: () => ["sockerless-doctor"],
  });
  const checks = [
    ...examined(acaChecks(config, azure, logger)),
    ...(files === undefined
      ? []
      : [
          { check: "the storage account's key", look: () => answered(() => files.key(), wrong) },
          { check: "NFS shares", look: () => answered(() => files.refuseHttpsOnly(), warning) },
        ]),
    ...(workspaceId === undefined
      ? []
      : [
          {
            check: "the workspace",
            look: (signal: AbortSignal) =>
              answered(async () => {
                for await (const _ of log.lines("doctor", { tail: 1n, sinceNs: undefined }, signal)) {
                  break; // An answer to the query will do: it has no lines.
                }
              }, wrong),
          },
        ]),
    ...agentChecks(whole, azure),
    {
      check: "the callback address",
      look: () =>
        config.callbackUrl === undefined
          ? wrong("agents have no address to call: set aca.callback_url")
          : unknown(`whether agents reach ${config.callbackUrl} is seen in Azure alone`),
    },
    ...rightChecks(config, azure),
  ];
  return { checks, close: () => azure.abandon() };
}

/** Checks of the image that brings the agent; one that `push-agent` has not pushed is where this backend has no right to look. */
function agentChecks(config: AcaConfig, azure: AzureClients): readonly DoctorCheck[] {
  const { agentImage, registryServer, registryUsername, registryPassword } = config.aca;
  const check = "the agent's image";
  if (agentImage !== undefined) {
    const found = unknown(`whether jobs can pull ${agentImage} is not this backend's to ask`);
    return [{ check, look: () => found }];
  }
  if (registryServer === undefined) {
    const found = wrong(
      "nothing brings the agent: set aca.registry_server and run `sockerless aca push-agent`",
    );
    return [{ check, look: () => found }];
  }
  const repository = acaRepository({
    ...{ azure, registryServer, registryUsername, registryPassword, repositoryPath, clock: systemClock },
    registry: registryOptions(config),
    workDirectory: path.join(config.stateDir, "uploads"),
    instance: "", // No image is made.
  });
  const reference = ownAgentImage(registryServer, repositoryPath);
  return examined([{ what: check, run: (signal) => checkAgentImage(repository, reference, signal) }]);
}

/** @param otherwise the result where Azure, or what it has told, refuses; a missing right tells nothing of the thing */
async function answered(ask: () => Promise<unknown>, otherwise: (text: string) => Result): Promise<Result> {
  try {
    await ask();
    return ok();
  } catch (error) {
    const isAnswer =
      error instanceof AzureError
        ? isRefusal(error) && !error.isDenied
        : isErrorKind(error, "invalid") || isErrorKind(error, "system");
    return (isAnswer ? otherwise : unknown)(messageOf(error));
  }
}
