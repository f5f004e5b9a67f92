/** The environment's quota of cores of the Consumption profile, in which jobs run. */
import type { AcaSection } from "../../common/config/load.ts";
import { type Expectations, type Result, unknown } from "../../common/finding.ts";
import { comparedWith } from "../cloud/upkeep/room.ts";
import type { AzureClients } from "./arm/clients.ts";
import { smallestCpu } from "./jobs/sizes.ts";

/** Cores of an environment. */
export interface Cores {
  readonly most: number;
  /** Used by all jobs and apps in it. */
  readonly used: number;
}

/** The name in Azure's list of an environment's quotas. */
const consumptionCores = "ManagedEnvironmentConsumptionCores";

/**
 * @returns undefined if Azure lists no such quota
 * @throws AzureError; the signal's reason
 */
export async function readCores(
  {
    resourceGroup,
    managedEnvironmentName: environment,
  }: Pick<AcaSection, "resourceGroup" | "managedEnvironmentName">,
  azure: Pick<AzureClients, "apps" | "call">,
  signal: AbortSignal,
): Promise<Cores | undefined> {
  return await azure.call(
    "ManagedEnvironmentUsages_List",
    async (options) => {
      const usages = azure.apps.managedEnvironmentUsages.list(resourceGroup, environment, options);
      for await (const { name, limit, currentValue } of usages) {
        if (name.value === consumptionCores) {
          return { most: limit, used: currentValue };
        }
      }
      return undefined;
    },
    signal,
  );
}

/** Compares the free cores with the number of expected containers. @throws as {@link readCores} */
export async function checkCores(
  config: AcaSection,
  azure: Pick<AzureClients, "apps" | "call">,
  expected: Pick<Expectations, "containers">,
  signal: AbortSignal,
): Promise<Result> {
  const cores = await readCores(config, azure, signal);
  if (cores === undefined) {
    return unknown(`Azure tells no quota ${consumptionCores} of ${config.managedEnvironmentName}`);
  }
  const free = Math.max(0, cores.most - cores.used);
  return comparedWith(expected, `${free} of ${cores.most} cores free in ${config.managedEnvironmentName}`, {
    room: Math.floor(free / smallestCpu),
    remedy: "raise the quota Managed Environment Consumption Cores in Azure's portal",
  });
}
