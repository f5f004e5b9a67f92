import type { KubernetesSection } from "../../common/config/load.ts";
import { cloudMachine } from "../cloud/ready-made/machine.ts";
import type { Machine, MachineFacts } from "../driver/machine.ts";
import type { KubernetesClient } from "./api/client.ts";
import { readQuotas } from "./namespace-quotas.ts";
import { numberIn } from "./quantities.ts";

/** The largest node, as far as it is known. */
interface LargestNode {
  readonly ncpu: number;
  readonly memTotal: bigint;
}

/** More than a node has: `--cpus` is compared with it where nodes may not be listed, and the scheduler knows better. */
const unknownCpus = 1_024;

/**
 * Facts of a cluster for `docker info`: the most that one pod can have is what its largest node has. A backend that may not
 * list nodes tells what a container may have, as configured.
 */
export function kubernetesMachine(
  client: KubernetesClient,
  { architecture, maxCpu, maxMemory = 0 }: Pick<KubernetesSection, "architecture" | "maxCpu" | "maxMemory">,
): Machine {
  let known: Promise<LargestNode> | undefined;
  return {
    quotas: (signal) => readQuotas(client, signal).catch(() => []),
    async facts(): Promise<MachineFacts> {
      known ??= largestNode(client).catch(() => {
        known = undefined;
        const ncpu = maxCpu === undefined ? unknownCpus : Math.ceil(numberIn(maxCpu));
        return { ncpu, memTotal: BigInt(maxMemory) };
      });
      return await cloudMachine({
        name: new URL(client.server).hostname,
        operatingSystem: `Kubernetes (namespace ${client.namespace})`,
        architecture: architecture === "arm64" ? "aarch64" : "x86_64",
        ...(await known),
        runtime: "kubernetes",
      }).facts();
    },
  };
}

async function largestNode(client: KubernetesClient): Promise<LargestNode> {
  const { items } = await client.call("list nodes", (options) => client.core.listNode({}, options));
  const sizes = items.map(({ status }) => status?.allocatable ?? {});
  return {
    ncpu: Math.max(0, ...sizes.map(({ cpu = "0" }) => Math.floor(numberIn(cpu)))),
    memTotal: BigInt(Math.max(0, ...sizes.map(({ memory = "0" }) => Math.floor(numberIn(memory))))),
  };
}
