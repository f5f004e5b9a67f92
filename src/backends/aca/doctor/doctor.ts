/**
 * Checks of `sockerless doctor` in Azure: those of the backend's start, and others that matter for a new installation.
 */
import path from "node:path";

import { systemClock } from "../../../common/clock.ts";
import type { AcaConfig } from "../../../common/config/load.ts";
import { isErrorKind, messageOf } from "../../../common/errors.ts";
import {
  type DoctorCheck,
  type Expectations,
  ok,
  type Result,
  unknown,
  warning,
  wrong,
} from "../../../common/finding.ts";
import type { Logger } from "../../../common/logger.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { examined } from "../../cloud/upkeep/examined.ts";
import { registryOptions } from "../../server/serve-engine.ts";
import { type AzureClients, createAzureClients } from "../arm/clients.ts";
import { AzureError } from "../arm/errors.ts";
import { parseRates } from "../arm/rates.ts";
import { checkCores } from "../cores.ts";
import { acaRepository, checkAgentImage, ownAgentImage } from "../images.ts";
import { logAnalyticsLog } from "../logs/log-analytics.ts";
import { agentImageOf, repositoryPath } from "../platform.ts";
import { configuredFiles } from "../shares/configured-files.ts";
import { acaChecks } from "../start-checks.ts";
import { rightChecks } from "./rights.ts";
import { callbackCheck, startedJobChecks } from "./start-jobs.ts";

/** The checks; they change nothing, except for jobs that are started on request. */
export function doctorChecks(
  whole: AcaConfig,
  logger: Logger,
  expected: Expectations,
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
    {
      check: "the quota of cores",
      look: (signal: AbortSignal) => checkCores(config, azure, expected, signal),
    },
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
                  break; // Any answer to the query suffices: it returns no lines.
                }
              }, wrong),
          },
        ]),
    ...agentChecks(whole, azure),
    ...callChecks(whole, azure, expected, logger),
    ...rightChecks(config, azure),
  ];
  return { checks, close: () => azure.abandon() };
}

/** Checks of the address that agents call; whether agents reach it can only be seen from inside the environment. */
function callChecks(
  config: AcaConfig,
  azure: AzureClients,
  { starts }: Expectations,
  logger: Logger,
): readonly DoctorCheck[] {
  const { callbackUrl } = config.aca;
  const agentImage = agentImageOf(config.aca);
  if (callbackUrl !== undefined && agentImage !== undefined && starts === "job") {
    return startedJobChecks({ config, azure, agentImage, callbackUrl, logger });
  }
  const found =
    callbackUrl === undefined
      ? wrong("agents have no address to call: set aca.callback_url")
      : unknown(`whether agents reach ${callbackUrl} is seen in Azure alone: --start-job has a job call it`);
  return [{ check: callbackCheck, look: () => found }];
}

/**
 * Checks of the agent's image; one that `push-agent` has not pushed is where this backend has no permission to look.
 */
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
    instance: "", // Not used: no image is created.
  });
  const reference = ownAgentImage(registryServer, repositoryPath);
  return examined([{ what: check, run: (signal) => checkAgentImage(repository, reference, signal) }]);
}

/**
 * @param otherwise the result if Azure refuses, or its answer is not acceptable; a missing permission says nothing
 *   about the resource
 */
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
