import type { AcaSection } from "../../common/config/load.ts";
import { cloudMachine } from "../cloud/ready-made/machine.ts";
import type { Machine } from "../driver/machine.ts";
import { largestCpu, memoryPerCpu } from "./jobs/sizes.ts";

/** Facts of an environment for `docker info`: the maximum of one job, as Container Apps shows no machine. */
export function acaMachine(config: Pick<AcaSection, "managedEnvironmentName" | "location">): Machine {
  return cloudMachine({
    name: config.managedEnvironmentName,
    operatingSystem: `Azure Container Apps (${config.location})`,
    architecture: "x86_64",
    ncpu: largestCpu,
    memTotal: BigInt(largestCpu * memoryPerCpu) * 1024n ** 3n,
    runtime: "container-apps",
  });
}
