/** Determines the networks and security groups of a task. Pure. */
import { invalid } from "../../../common/errors.ts";
import type { NetworkPlan, WorkloadSpec } from "../../driver/workload-spec.ts";

/** AWS's limit of security groups per network interface. */
export const mostGroups = 5;

/**
 * The groups without duplicates.
 *
 * @throws invalid: more than a task can have
 */
export function groupsTogether(groups: readonly string[]): string[] {
  const unique = [...new Set(groups)];
  if (unique.length > mostGroups) {
    throw invalid(
      `a container on the ecs backend can be on so many networks that its task has ${mostGroups} security groups ` +
        "(one for each user-defined network, and the configured ones for the default network, and for volumes where " +
        `ecs.efs_security_group_id is not set), not ${unique.length}`,
    );
  }
  return unique;
}

/**
 * A container's own networks, or those of the container whose network it shares: their tasks thus reach each other, and
 * a peer that reaches one reaches the other.
 */
export function networkOfTask({ network, joined }: Pick<WorkloadSpec, "network" | "joined">): NetworkPlan {
  return joined?.network?.plan ?? network;
}
