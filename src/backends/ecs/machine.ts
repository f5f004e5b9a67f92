import type { EcsSection } from "../../common/config/load.ts";
import { cloudMachine } from "../cloud/ready-made/machine.ts";
import type { Machine } from "../driver/machine.ts";

/** Facts of a cluster for `docker info`. Fargate shows no machine, so they are the most that one task can have. */
export function ecsMachine(config: Pick<EcsSection, "cluster" | "region" | "architecture">): Machine {
  return cloudMachine({
    name: config.cluster,
    operatingSystem: `AWS Fargate (${config.region})`,
    architecture: config.architecture === "arm64" ? "aarch64" : "x86_64",
    ncpu: 16,
    memTotal: 120n * 1024n ** 3n,
    runtime: "fargate",
  });
}
