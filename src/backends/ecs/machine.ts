import type { EcsSection } from "../../common/config/load.ts";
import { type TaskRecord, TaskPhase } from "../../gen/sockerless/state/v1/state_pb.ts";
import { cloudMachine } from "../cloud/ready-made/machine.ts";
import type { Machine } from "../driver/machine.ts";
import type { VcpuQuota } from "./vcpu-quota.ts";

/** Fargate's quotas, and the requests' use of them. */
export interface EcsQuotas {
  readonly quotas: Readonly<Record<"onDemand" | "spot", Pick<VcpuQuota, "refreshed">>>;
  readonly tasks: () => Iterable<TaskRecord>;
  /** The requested vCPUs, and their kind. */
  readonly vcpusOf: (request: string) => { readonly vcpus: number; readonly isSpot: boolean };
  readonly asksSpot: boolean;
}

/** Facts about a cluster for `docker info`. As Fargate shows no machine, they are the maximum of one task. */
export function ecsMachine(
  config: Pick<EcsSection, "cluster" | "region" | "architecture">,
  { quotas, tasks, vcpusOf, asksSpot }: EcsQuotas,
): Machine {
  return {
    ...cloudMachine({
      name: config.cluster,
      operatingSystem: `AWS Fargate (${config.region})`,
      architecture: config.architecture === "arm64" ? "aarch64" : "x86_64",
      ncpu: 16,
      memTotal: 120n * 1024n ** 3n,
      runtime: "fargate",
    }),
    async quotas(signal) {
      const taking = [...tasks()].filter(({ task, phase }) => task !== "" && phase !== TaskPhase.GONE);
      const asked = taking.map(({ request }) => vcpusOf(request));
      const used = (isSpot: boolean): number =>
        asked.filter((each) => each.isSpot === isSpot).reduce((sum, { vcpus }) => sum + vcpus, 0);
      const spot = {
        name: "fargate_spot_vcpus",
        most: asksSpot ? await quotas.spot.refreshed(signal) : undefined,
      };
      return [
        { name: "fargate_vcpus", most: await quotas.onDemand.refreshed(signal), used: used(false) },
        ...(asksSpot ? [{ ...spot, used: used(true) }] : []),
      ];
    },
  };
}
