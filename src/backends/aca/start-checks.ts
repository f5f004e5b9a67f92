/** Checks the configured resources in Azure when the backend starts. */
import type { AcaSection } from "../../common/config/load.ts";
import type { Logger } from "../../common/logger.ts";
import type { StartCheck } from "../cloud/contract/platform.ts";
import type { AzureClients, SendOptions } from "./arm/clients.ts";
import { isMissing } from "./arm/errors.ts";

type Look = (
  config: AcaSection,
  azure: Pick<AzureClients, "apps" | "storage">,
  options: SendOptions,
) => Promise<string | undefined>;

/** The checks; each is one call. */
export function acaChecks(
  config: AcaSection,
  azure: Pick<AzureClients, "apps" | "storage" | "call">,
  logger: Logger,
): readonly StartCheck[] {
  const check = (what: string, operation: string, look: Look): StartCheck => ({
    what,
    run: (signal) => azure.call(operation, (options) => look(config, azure, options), signal),
  });
  return [
    check("the environment", "ManagedEnvironments_Get", async (...args) => {
      const [{ subscriptionId, resourceGroup }] = args;
      logger.info(`Azure subscription ${subscriptionId}, resource group ${resourceGroup}`);
      return await checkEnvironment(...args);
    }),
    check("jobs", "Jobs_ListByResourceGroup", checkJobs),
    ...(config.storageAccountName === undefined
      ? []
      : [check("the storage account", "StorageAccounts_GetProperties", checkStorage)]),
    { what: "the configuration", run: () => Promise.resolve(checkConfiguration(config)) },
  ];
}

async function checkEnvironment(
  { resourceGroup, managedEnvironmentName: name, location }: AcaSection,
  { apps }: Pick<AzureClients, "apps">,
  options: SendOptions,
): Promise<string | undefined> {
  try {
    const environment = await apps.managedEnvironments.get(resourceGroup, name, options);
    const { provisioningState, location: there = "", workloadProfiles = [] } = environment;
    if (provisioningState !== undefined && provisioningState !== "Succeeded") {
      return `the environment ${name} is ${provisioningState}: no container will start`;
    }
    if (plainRegion(there) !== plainRegion(location)) {
      return `the environment ${name} is in ${there}, and aca.location is ${location}: no container will start`;
    }
    return workloadProfiles.length > 0
      ? undefined
      : `the environment ${name} has no workload profiles: containers have 2 vCPU and 4 GiB of memory at most`;
  } catch (error) {
    if (isMissingHere(error)) {
      return `there is no environment ${name} in the resource group ${resourceGroup}: no container will start`;
    }
    throw error;
  }
}

async function checkJobs(
  { resourceGroup }: AcaSection,
  { apps }: Pick<AzureClients, "apps">,
  options: SendOptions,
): Promise<undefined> {
  await apps.jobs.listByResourceGroup(resourceGroup, options).next();
}

async function checkStorage(
  { resourceGroup, storageAccountName: name = "" }: AcaSection,
  { storage }: Pick<AzureClients, "storage">,
  options: SendOptions,
): Promise<string | undefined> {
  try {
    await storage.storageAccounts.getProperties(resourceGroup, name, options);
    return undefined;
  } catch (error) {
    if (isMissingHere(error)) {
      return `there is no storage account ${name} in the resource group ${resourceGroup}: no volume can be made`;
    }
    throw error;
  }
}

function checkConfiguration(config: AcaSection): string | undefined {
  if (
    config.registryServer !== undefined &&
    config.identity === undefined &&
    config.registryUsername === undefined
  ) {
    return `nobody may pull from ${config.registryServer}: set aca.identity, or aca.registry_username and aca.registry_password`;
  }
  return config.logAnalyticsWorkspaceId === undefined
    ? "aca.log_analytics_workspace_id is not set: of containers whose agent is gone only what was taken in of their logs is shown"
    : undefined;
}

/** `West Europe` is `westeurope`. */
function plainRegion(region: string): string {
  return region.toLowerCase().replaceAll(" ", "");
}

function isMissingHere(error: unknown): boolean {
  return isMissing(error) || (error as { readonly statusCode?: number } | undefined)?.statusCode === 404;
}
