import type { Clock } from "../../common/clock.ts";
import type { AcaSection } from "../../common/config/load.ts";
import { cloudMachine } from "../cloud/ready-made/machine.ts";
import type { Machine } from "../driver/machine.ts";
import type { AzureClients } from "./arm/clients.ts";
import { type Cores, readCores } from "./cores.ts";
import { largestCpu, memoryPerCpu } from "./jobs/sizes.ts";

/** Maximum age of a cached value, as the rate of calls to Azure is low. */
const freshMs = 60_000;

/** Facts of an environment for `docker info`: the maximum of one job, as Container Apps shows no machine. */
export function acaMachine(
  config: Pick<AcaSection, "resourceGroup" | "managedEnvironmentName" | "location">,
  azure: Pick<AzureClients, "apps" | "call">,
  clock: Clock,
): Machine {
  let cores: Cores | undefined;
  let readAtMs = Number.NEGATIVE_INFINITY;
  return {
    ...cloudMachine({
      name: config.managedEnvironmentName,
      operatingSystem: `Azure Container Apps (${config.location})`,
      architecture: "x86_64",
      ncpu: largestCpu,
      memTotal: BigInt(largestCpu * memoryPerCpu) * 1024n ** 3n,
      runtime: "container-apps",
    }),
    async quotas(signal) {
      if (clock.nowMs() - readAtMs > freshMs) {
        readAtMs = clock.nowMs();
        cores = await readCores(config, azure, signal).catch(() => undefined);
      }
      return cores === undefined ? [] : [{ name: "container_apps_consumption_cores", ...cores }];
    },
  };
}
