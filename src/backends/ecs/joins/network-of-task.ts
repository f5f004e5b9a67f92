/** On which networks a container's task has to be. Pure. */
import type { NetworkPlan, WorkloadSpec } from "../../common/driver.ts";

/**
 * A container's own networks, or those of the container whose network it shares: their tasks then reach each other, and
 * whoever reaches the one reaches the other.
 */
export function networkOfTask({ network, joined }: Pick<WorkloadSpec, "network" | "joined">): NetworkPlan {
  return joined?.network?.plan ?? network;
}
