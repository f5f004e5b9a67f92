import { cloudMachine } from "../cloud/ready-made/machine.ts";
import type { Machine, MachineFacts } from "../driver/machine.ts";
import { quotasUnknown } from "../driver/ready-made-roles.ts";
import type { KubernetesClient } from "./api/client.ts";
import { numberIn } from "./quantities.ts";

/** The largest node, as far as it is known. */
interface LargestNode {
  readonly ncpu: number;
  readonly memTotal: bigint;
}

/**
 * Facts of a cluster for `docker info`: the most that one pod can have is what its largest node has. A backend that may not
 * list nodes tells of none.
 */
export function kubernetesMachine(client: KubernetesClient, architecture: string): Machine {
  let known: Promise<LargestNode> | undefined;
  return {
    quotas: quotasUnknown,
    async facts(): Promise<MachineFacts> {
      known ??= largestNode(client).catch(() => {
        known = undefined;
        return { ncpu: 0, memTotal: 0n };
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
