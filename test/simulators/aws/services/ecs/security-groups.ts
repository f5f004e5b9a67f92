/** Security groups of the simulated EC2, as the machine's router enforces them. */
import type { SecurityRule, VpcNetwork } from "../../cloud.ts";
import type { GroupRule, GroupRules } from "../../../common/machine/firewall.ts";
import type { Vpc } from "../../../common/machine/vpc.ts";

/** Keeps the router's rules as EC2 has them; answers how to end that. */
export function followSecurityGroups(network: VpcNetwork, vpc: Vpc): () => void {
  return network.onChanged(() => {
    const groupIds = new Set(network.interfaces().flatMap((each) => each.groupIds));
    void enforceGroups(network, vpc, [...groupIds]);
  });
}

/** Gives the router the rules of these groups; resolves when it has them. */
export async function enforceGroups(
  network: VpcNetwork,
  vpc: Vpc,
  groupIds: readonly string[],
): Promise<void> {
  await Promise.all(groupIds.map((groupId) => vpc.setGroup(groupId, rulesFor(network.rulesOf([groupId])))));
}

function rulesFor(rules: readonly SecurityRule[]): GroupRules {
  const inDirection = (direction: SecurityRule["direction"]): GroupRule[] =>
    rules
      .filter((rule) => rule.direction === direction)
      .map(({ protocol, fromPort, toPort, peer }) => ({
        protocol,
        ...(fromPort >= 0 && { fromPort, toPort }),
        ...peer,
      }));
  return { ingress: inDirection("ingress"), egress: inDirection("egress") };
}
