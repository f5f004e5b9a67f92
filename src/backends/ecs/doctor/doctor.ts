/**
 * Checks of `sockerless doctor` in AWS: those of the backend's start, and others that matter for a new installation.
 */
import { IAMClient } from "@aws-sdk/client-iam";

import { systemClock } from "../../../common/clock.ts";
import type { EcsConfig } from "../../../common/config/load.ts";
import {
  type DoctorCheck,
  type Expectations,
  ok,
  type Result,
  unknown,
  wrong,
} from "../../../common/finding.ts";
import type { Logger } from "../../../common/logger.ts";
import { examined } from "../../cloud/upkeep/examined.ts";
import { createAwsClients } from "../aws/clients.ts";
import { parseRates } from "../aws/rates.ts";
import { isAwsError } from "../aws/errors.ts";
import { ecsChecks, hasPushedAgent } from "../start-checks.ts";
import { checkGroupsEgress, checkMountTargets, checkWayOut } from "./network.ts";
import { checkAddresses, checkInterfaces, checkVcpus } from "./quotas.ts";
import { rightChecks } from "./rights.ts";
import { checkExecutionRole, checkTaskRole } from "./roles.ts";
import { type Surroundings, surroundingsOf } from "./surroundings.ts";

/** The checks; they change nothing. */
export function doctorChecks(
  { ecs: config, pool }: EcsConfig,
  logger: Logger,
  expected: Expectations,
): { readonly checks: readonly DoctorCheck[]; close(): void } {
  const { region, endpoint, apiRates } = config;
  const aws = createAwsClients({ region, endpoint, rates: parseRates(apiRates), clock: systemClock, logger });
  const surroundings = surroundingsOf({ ...config, pool }, aws);
  const iam = aws.another("iam", (settings) => new IAMClient(settings));
  const { taskRoleArn } = config;
  const check = (
    name: string,
    look: (surroundings: Surroundings, signal: AbortSignal) => Promise<Result> | Result,
  ): DoctorCheck => ({ check: name, look: (signal) => look(surroundings, signal) });
  const checks = [
    ...examined(ecsChecks(config, aws, logger)),
    ...(hasPushedAgent(config) ? [] : [check("the agent", checkOtherAgent)]),
    check("the way out of the subnets", checkWayOut),
    check("the way out of the security groups", checkGroupsEgress),
    ...(config.efsFilesystemId === undefined ? [] : [check("the mount targets", checkMountTargets)]),
    ...(config.cloudMapNamespaceId === undefined ? [] : [check("the namespace", checkNamespace)]),
    check("the quota of vCPUs", (around, signal) => checkVcpus(around, expected, signal)),
    check("the quota of network interfaces", (around, signal) => checkInterfaces(around, expected, signal)),
    check("the addresses of the subnets", (around, signal) => checkAddresses(around, expected, signal)),
    check("the execution role", (around, signal) => checkExecutionRole(around, iam, signal)),
    ...(taskRoleArn === undefined
      ? []
      : [check("the task role", (around, signal) => checkTaskRole(around, iam, taskRoleArn, signal))]),
    ...rightChecks(surroundings, iam),
  ];
  return { checks, close: () => aws.close() };
}

/** An agent's image other than the one of `push-agent`: it is where this backend has no permission to look. */
function checkOtherAgent({ config: { agentAccessPointId, agentImage } }: Surroundings): Result {
  if (agentAccessPointId !== undefined) {
    return unknown(`only tasks see whether sockerless-agent is in ${agentAccessPointId}`);
  }
  return agentImage === undefined
    ? wrong("nothing brings the agent: set ecs.ecr_repository and run `sockerless ecs push-agent`")
    : unknown(`whether tasks can pull ${agentImage} is not this backend's to ask`);
}

async function checkNamespace({ config, namespace }: Surroundings, signal: AbortSignal): Promise<Result> {
  try {
    const { Name, Type } = (await namespace(signal)) ?? {};
    return Type === "DNS_PRIVATE"
      ? ok(Name)
      : wrong(`the Cloud Map namespace ${Name} has no private DNS (${Type}): names in it resolve nowhere`);
  } catch (error) {
    if (isAwsError(error, "NamespaceNotFound")) {
      return wrong(`there is no Cloud Map namespace ${config.cloudMapNamespaceId} in ${config.region}`);
    }
    throw error;
  }
}
