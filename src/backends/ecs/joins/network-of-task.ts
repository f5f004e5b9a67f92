/** On which networks a container's task has to be. Pure. */
import { notImplemented } from "../../../common/errors.ts";
import type { NetworkPlan, WorkloadSpec } from "../../common/driver.ts";

/**
 * A container's own networks, or those of the container whose network it shares: their tasks then reach each other, and
 * whoever reaches the one reaches the other.
 *
 * @throws not-implemented: nothing reaches what is shared
 */
export function networkOfTask({ network, joined }: Pick<WorkloadSpec, "network" | "joined">): NetworkPlan {
  const shared = joined?.network;
  if (shared?.plan.kind === "none") {
    throw notImplemented(
      `the ecs backend cannot share the network of container ${shared.owner.name}: it has --network none, and two tasks without a network do not reach each other`,
    );
  }
  return shared?.plan ?? network;
}
