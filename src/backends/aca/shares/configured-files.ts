import type { AcaSection } from "../../../common/config/load.ts";
import type { Clock } from "../../../common/clock.ts";
import type { AzureClients } from "../arm/clients.ts";
import { AzureFiles } from "./azure-files.ts";
import { refusalOfKey } from "./shared-key.ts";

/** The shares of the configured storage account; undefined if none is configured. */
export function configuredFiles(
  { resourceGroup, managedEnvironmentName, storageAccountName, storageAccountKey, filesEndpoint }: AcaSection,
  azure: AzureClients,
  clock: Clock,
): AzureFiles | undefined {
  if (storageAccountName === undefined) {
    return undefined;
  }
  const account = storageAccountName;
  const endpoint = filesEndpoint ?? `https://${account}.file.core.windows.net`;
  return new AzureFiles({
    ...{ azure, resourceGroup, environment: managedEnvironmentName, clock },
    ...{ account, accountKey: storageAccountKey },
    refusalOfKey: (key) => refusalOfKey({ azure, endpoint, account }, key),
  });
}
