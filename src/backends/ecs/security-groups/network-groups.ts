/** One security group for each user-defined network, one for containers without a network, and one for volumes. */
import { createHash } from "node:crypto";

import type { SecurityGroup } from "@aws-sdk/client-ec2";

import { componentLogger, type Logger } from "../../../common/logger.ts";
import { conflict } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import type { Network } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type { NetworkRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { iccOption } from "../../model/bridge-options.ts";
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { isAwsError } from "../aws/errors.ts";
import { instanceTag, networkTag, tagValue } from "../tags.ts";
import { egressRules, ingressRules } from "./network-rules.ts";
import { networkOfGroup, networkTags } from "./network-tags.ts";
import type { PendingRemovals } from "./pending-removals.ts";
import { nfsPort, peersAt, permissionOf, type Rule } from "./rules.ts";
import type { NewGroup, SecurityGroups } from "./security-groups.ts";

/** Settings and dependencies of {@link NetworkGroups}. */
export interface NetworkGroupsOptions {
  readonly groups: SecurityGroups;
  readonly removals: PendingRemovals;
  readonly instance: string;
  /** Groups of the default network. */
  readonly configuredGroups: readonly string[];
  /** CIDRs and groups with access to agents; if empty, those with access by the configured groups. */
  readonly agentIngress: readonly string[];
  /** TCP port at which agents call this backend; undefined if they are dialled. */
  readonly callbackPort: number | undefined;
  /** Group of the file system's mount targets. */
  readonly efsGroupId: string | undefined;
  readonly logger: Logger;
}

/** Allowed destinations of a network's containers. */
interface Reach {
  /** Whether they reach each other. */
  readonly connected: boolean;
  /** Whether they reach the Internet; otherwise only what Fargate itself needs. */
  readonly leadsOut: boolean;
}

/** Value of the network tag of the group for containers without a network. */
export const withoutNetwork = "none";
/** Value of the network tag of the group that admits containers on any networks to the file system, and to nothing else. */
export const withVolumes = "volumes";

/** Groups of an instance that are no network's. */
export type CommonGroup = typeof withoutNetwork | typeof withVolumes;

/** Whether a value of the network tag is no network's ID. */
export function isCommon(network: string): network is CommonGroup {
  return network === withoutNetwork || network === withVolumes;
}

/** The groups of this instance's networks. All methods throw AwsError. */
export class NetworkGroups {
  readonly #options: NetworkGroupsOptions;
  readonly #logger: Logger;
  /** Groups by network ID. */
  readonly #known = new Map<string, SecurityGroup>();
  /** Networks whose groups EC2 has refused to create: nothing needs to be removed. */
  readonly #refused = new Set<string>();
  #agentPeers: Promise<readonly Rule["peer"][]> | undefined;
  /**
   * Groups that the file system's group admits; one of a network has it for a container on five networks, from an
   * earlier version, or by hand.
   */
  #admitted: Promise<Set<string>> | undefined;
  readonly #common = new Map<CommonGroup, Promise<string>>();
  /** Pending removals of common groups; they never reject. */
  readonly #removing = new Map<CommonGroup, Promise<void>>();

  constructor(options: NetworkGroupsOptions) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "networks");
  }

  /** Creates a network's group, or adds missing rules. @returns its ID */
  async ensure(network: Network): Promise<string> {
    const { instance } = this.#options;
    const wanted = {
      name: groupNameOf(network.id, instance),
      description: `sockerless network ${network.name.replaceAll(/[^\w .-]/g, "_").slice(0, 200)}`,
      tags: networkTags(network, instance, this.#logger),
    };
    const known = this.#known.get(network.id);
    try {
      return await this.#complete(network, known ?? (await this.#make(network, wanted)));
    } catch (error) {
      if (known === undefined || !isAwsError(error, "InvalidGroup.NotFound")) {
        throw error;
      }
      // The group existed when this process began, and somebody has removed it since.
      return await this.#complete(network, await this.#make(network, wanted));
    }
  }

  async #make({ id }: Network, wanted: NewGroup): Promise<SecurityGroup> {
    this.#refused.delete(id);
    try {
      return await this.#options.groups.create(wanted);
    } catch (error) {
      if (isRefusal(error) && !isAwsError(error, "InvalidGroup.Duplicate")) {
        this.#refused.add(id);
      }
      throw error;
    }
  }

  /** Removes a network's group; in the background if it is still in use. */
  async remove({ network, driverReference }: NetworkRecord): Promise<void> {
    const { groups, instance, removals } = this.#options;
    const id = network?.id ?? "";
    const isUnknown = driverReference === "" && !this.#refused.delete(id);
    const group =
      this.#known.get(id) ?? (isUnknown ? await groups.namedOnceShown(groupNameOf(id, instance)) : undefined);
    const groupId = group?.GroupId ?? driverReference;
    this.#known.delete(id);
    if (groupId === "") {
      return;
    }
    if (!(await this.delete(groupId))) {
      // A group without its rules is recognised as a removed network's, also by the next process.
      const [present] = await groups.withIds([groupId]);
      await groups.disallow(groupId, present?.IpPermissions ?? []);
      removals.add(groupId);
    }
  }

  /**
   * Removes a group, with its rule in the group of the file system.
   *
   * @returns whether it is gone; not while an interface uses it
   */
  async delete(groupId: string): Promise<boolean> {
    const { groups, efsGroupId } = this.#options;
    const admitted = await this.#admittedToVolumes();
    if (efsGroupId !== undefined && admitted.has(groupId)) {
      await groups.disallow(efsGroupId, [permissionOf(nfsFrom(groupId))]);
      admitted.delete(groupId);
    }
    return await groups.delete(groupId);
  }

  /** Finds the networks of this instance by their groups' tags, and resumes interrupted removals of groups. */
  async found(): Promise<readonly NetworkRecord[]> {
    const { groups, instance, removals } = this.#options;
    const networks: NetworkRecord[] = [];
    for (const group of await groups.tagged(instanceTag, instance)) {
      const id = tagValue(group.Tags ?? [], networkTag);
      if (id === undefined || isCommon(id)) {
        continue;
      }
      if (group.GroupName !== groupNameOf(id, instance)) {
        // By copied tags, which may be of a network that has its group.
        this.#logger.warn(
          { group: group.GroupId },
          "a security group with the tags of another one is left alone",
        );
        continue;
      }
      this.#known.set(id, group);
      if ((group.IpPermissions ?? []).length === 0) {
        removals.add(group.GroupId ?? ""); // Cancelled if the state knows the network.
        continue;
      }
      const record = networkOfGroup(group);
      if (record === undefined) {
        this.#logger.warn(
          { group: group.GroupId },
          "the tags of a network's security group are not readable",
        );
        continue;
      }
      networks.push(record);
    }
    return networks;
  }

  /** The group of an existing network. */
  idOf(network: NetworkRecord): string {
    return this.#known.get(network.network?.id ?? "")?.GroupId ?? network.driverReference;
  }

  /** Those of the groups that the file system's mount targets admit. */
  async admitted(groupIds: readonly string[]): Promise<string[]> {
    const admitted = await this.#admittedToVolumes();
    return groupIds.filter((groupId) => admitted.has(groupId));
  }

  /** Has the file system's group admit another one. @throws conflict: it has no room for a rule; AwsError */
  async admit(groupId: string): Promise<void> {
    const { groups, efsGroupId = "" } = this.#options;
    const admitted = await this.#admittedToVolumes();
    if (admitted.has(groupId)) {
      return;
    }
    try {
      await groups.allow({ GroupId: efsGroupId }, [nfsFrom(groupId)]);
    } catch (error) {
      this.#admitted = undefined; // Only the answer may be lost.
      throw isAwsError(error, "RulesPerSecurityGroupLimitExceeded")
        ? conflict(
            "the file system's security group (ecs.efs_security_group_id) has no room for a rule, which containers with volumes on user-defined networks need: " +
              "remove unused networks that have a rule there (docker network rm) or unused rules of that group, or ask AWS for more inbound rules per security group",
          )
        : error;
    }
    admitted.add(groupId);
  }

  /**
   * A group that is no network's, created for the first container that needs it.
   *
   * @throws conflict: the file system's group has no room for a rule; AwsError
   */
  async common(kind: CommonGroup): Promise<string> {
    await this.#removing.get(kind);
    const made = this.#common.get(kind) ?? this.#createCommon(kind);
    this.#common.set(kind, made);
    try {
      return await made;
    } catch (error) {
      this.#common.delete(kind);
      throw error;
    }
  }

  /**
   * Removes a group that is no network's; if an interface still uses it, a later call does. A start that needs the group
   * meanwhile waits, and creates it again.
   *
   * @param isNeeded whether there is a container that needs it
   */
  async removeCommon(kind: CommonGroup, isNeeded: () => boolean): Promise<void> {
    const removed = Promise.withResolvers<void>();
    this.#removing.set(kind, removed.promise);
    try {
      const { groups, instance } = this.#options;
      const group = await groups.named(groupNameOf(kind, instance));
      if (group === undefined || isNeeded()) {
        return;
      }
      this.#common.delete(kind);
      await this.delete(group.GroupId ?? "");
    } finally {
      this.#removing.delete(kind);
      removed.resolve();
    }
  }

  async #complete(network: Network, group: SecurityGroup): Promise<string> {
    const groupId = group.GroupId ?? "";
    this.#known.set(network.id, group);
    this.#options.removals.cancel(groupId);
    const connected = !["false", "0"].includes(network.options[iccOption] ?? "");
    await this.#giveRules(group, { connected, leadsOut: !network.internal });
    return groupId;
  }

  async #createCommon(kind: CommonGroup): Promise<string> {
    const { groups, instance } = this.#options;
    const wanted: NewGroup = {
      name: groupNameOf(kind, instance),
      description: `sockerless containers ${kind === withVolumes ? "with volumes" : "without a network"}`,
      tags: [
        { Key: networkTag, Value: kind },
        { Key: instanceTag, Value: instance },
      ],
    };
    const group = (await groups.named(wanted.name)) ?? (await groups.create(wanted));
    if (kind === withVolumes) {
      await this.admit(group.GroupId ?? ""); // Waits until EC2 shows a new group everywhere.
      await groups.allowOut(group, []); // Ways out are those of a container's networks.
    } else {
      await this.#giveRules(group, { connected: false, leadsOut: false });
    }
    return group.GroupId ?? "";
  }

  async #giveRules(group: SecurityGroup, { connected, leadsOut }: Reach): Promise<void> {
    const { groups, efsGroupId, callbackPort } = this.#options;
    const agentPeers = await this.#peersOfAgents();
    const context = { groupId: group.GroupId ?? "", connected, agentPeers, efsGroupId, callbackPort };
    await groups.allow(group, ingressRules(context));
    if (!leadsOut) {
      await groups.allowOut(group, egressRules(context)); // The default egress rules of EC2 stay for the others.
    }
  }

  #admittedToVolumes(): Promise<Set<string>> {
    this.#admitted ??= this.#queryAdmitted();
    this.#admitted.catch(() => {
      this.#admitted = undefined;
    });
    return this.#admitted;
  }

  async #queryAdmitted(): Promise<Set<string>> {
    const { groups, efsGroupId } = this.#options;
    if (efsGroupId === undefined) {
      return new Set();
    }
    const [group] = await groups.withIds([efsGroupId]).catch((error: unknown) => {
      if (isAwsError(error, "InvalidGroup.NotFound")) {
        return []; // Networks can be removed all the same.
      }
      throw error;
    });
    const peers = peersAt(nfsPort, group?.IpPermissions ?? []);
    return new Set(peers.flatMap((peer) => ("group" in peer ? [peer.group] : [])));
  }

  /** The peers with access to agents: the configured ones, or those of the configured groups, queried once. */
  #peersOfAgents(): Promise<readonly Rule["peer"][]> {
    const { agentIngress, configuredGroups, groups } = this.#options;
    if (agentIngress.length > 0) {
      return Promise.resolve(
        agentIngress.map((each) => (each.startsWith("sg-") ? { group: each } : { cidr: each })),
      );
    }
    this.#agentPeers ??= groups.withIds(configuredGroups).then((configured) => {
      const peers = configured.flatMap(({ IpPermissions }) => peersAt(agentPort, IpPermissions ?? []));
      if (peers.length === 0) {
        this.#logger.warn(
          { groups: configuredGroups },
          `nobody may reach port ${agentPort}: set ecs.agent_ingress, or allow it in the configured security groups`,
        );
      }
      return peers;
    });
    this.#agentPeers.catch(() => {
      this.#agentPeers = undefined;
    });
    return this.#agentPeers;
  }
}

/** The name of a network's group, or of an instance's group that is no network's. */
export function groupNameOf(network: string, instance: string): string {
  const hash = createHash("sha256").update(instance).digest("hex");
  return `sockerless-net-${isCommon(network) ? `${network}-${shortId(hash)}` : shortId(network)}`;
}

/** The rule in the group of the file system's mount targets that admits another group. */
export function nfsFrom(groupId: string): Rule {
  return { tcpPort: nfsPort, peer: { group: groupId } };
}
