import { permissionOf } from "../security-groups/rules.ts";
import { groupNameOf, isCommon, nfsFrom, withVolumes } from "../security-groups/network-groups.ts";
import type { SecurityGroups } from "../security-groups/security-groups.ts";
import { instanceTag, networkTag, tagValue } from "../tags.ts";
import type { Known, Orphan } from "../../cloud/orphans/orphan.ts";

/**
 * Security groups of networks, and other instances' groups for containers without a network or with volumes. A group with
 * another name than its tags give has copied them.
 */
export async function orphanedGroups(
  groups: SecurityGroups,
  efsGroupId: string | undefined,
  own: string,
  known: Known,
): Promise<Orphan[]> {
  const found: Orphan[] = [];
  for (const { GroupId: id = "", GroupName, Tags = [] } of await groups.tagged(networkTag)) {
    const network = tagValue(Tags, networkTag) ?? "";
    const instance = tagValue(Tags, instanceTag) ?? "";
    const isOwn = instance === own && (isCommon(network) || known.hasNetwork(network));
    if (isOwn || GroupName !== groupNameOf(network, instance)) {
      continue;
    }
    found.push({
      kind: "security group",
      id,
      purpose: purposeOf(network),
      instance,
      async remove() {
        if (efsGroupId !== undefined) {
          await groups.disallow(efsGroupId, [permissionOf(nfsFrom(id))]);
        }
        return (await groups.delete(id)) ? undefined : "a network interface or another group's rule names it";
      },
    });
  }
  return found;
}

function purposeOf(network: string): string {
  if (isCommon(network)) {
    return `containers ${network === withVolumes ? "with volumes" : "without a network"}`;
  }
  return `network ${network.slice(0, 12)}`;
}
