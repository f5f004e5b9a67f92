/** One security group for each user-defined network, and one for containers without a network. */
import { createHash } from "node:crypto";

import type { SecurityGroup } from "@aws-sdk/client-ec2";

import { componentLogger, type Logger } from "../../../common/logger.ts";
import { shortId } from "../../../common/ids.ts";
import type { Network } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type { NetworkRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { isAwsError } from "../aws/errors.ts";
import { instanceTag, networkTag, tagValue } from "../tags.ts";
import { egressRules, ingressRules } from "./network-rules.ts";
import { networkOfGroup, networkTags } from "./network-tags.ts";
import type { PendingRemovals } from "./pending-removals.ts";
import { nfsPort, peersAt, permissionOf, type Rule } from "./rules.ts";
import type { NewGroup, SecurityGroups } from "./security-groups.ts";

/** Settings of {@link NetworkGroups}, and what it calls. */
export interface NetworkGroupsOptions {
  readonly groups: SecurityGroups;
  readonly removals: PendingRemovals;
  readonly instance: string;
  /** Groups of the default network. */
  readonly configuredGroups: readonly string[];
  /** CIDRs and groups that may reach agents; none: those that the configured groups let. */
  readonly agentIngress: readonly string[];
  /** TCP port at which agents call this backend; undefined: they are dialled. */
  readonly callbackPort: number | undefined;
  /** Group of the file system's mount targets. */
  readonly efsGroupId: string | undefined;
  readonly logger: Logger;
}

/** Docker's option that says whether the containers of a bridge reach one another. */
const iccOption = "com.docker.network.bridge.enable_icc";

/** Destinations that the containers of a network can open connections to. */
interface Reach {
  /** Whether they reach one another. */
  readonly connected: boolean;
  /** Whether they reach the world; else only what Fargate itself needs. */
  readonly leadsOut: boolean;
}

/** The network tag's value on the group for containers without a network. */
export const withoutNetwork = "none";

/** The groups of this instance's networks. All methods throw AwsError. */
export class NetworkGroups {
  readonly #options: NetworkGroupsOptions;
  readonly #logger: Logger;
  /** Groups by network ID. */
  readonly #known = new Map<string, SecurityGroup>();
  /** Whether the mount targets let a network's containers in, by its ID; absent: EC2 has not told yet. */
  readonly #mounts = new Map<string, boolean>();
  /** Networks whose groups EC2 has refused to make: there is nothing to take back. */
  readonly #refused = new Set<string>();
  #agentPeers: Promise<readonly Rule["peer"][]> | undefined;
  #efsGroup: Promise<SecurityGroup | undefined> | undefined;
  #none: Promise<string> | undefined;
  /** The group of containers without a network is being removed; never rejects. */
  #removingNone: Promise<void> | undefined;

  constructor(options: NetworkGroupsOptions) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "networks");
  }

  /** Makes a network's group, and the rules that it lacks. @returns its ID */
  async ensure(network: Network): Promise<string> {
    const { instance } = this.#options;
    const wanted = {
      name: `sockerless-net-${shortId(network.id)}`,
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
      // The group was there when this process began, and somebody has removed it since.
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

  /** Removes a network's group, behind the answer where something still holds it. */
  async remove({ network, driverReference }: NetworkRecord): Promise<void> {
    const { groups, removals, efsGroupId } = this.#options;
    const id = network?.id ?? "";
    const isUnknown = driverReference === "" && !this.#refused.delete(id);
    const group =
      this.#known.get(id) ??
      (isUnknown ? await groups.namedOnceShown(`sockerless-net-${shortId(id)}`) : undefined);
    const groupId = group?.GroupId ?? driverReference;
    this.#known.delete(id);
    this.#mounts.delete(id);
    if (groupId === "") {
      return;
    }
    if (efsGroupId !== undefined) {
      await groups.disallow(efsGroupId, [permissionOf(nfsFrom(groupId))]);
      this.#efsGroup = undefined;
    }
    if (!(await groups.delete(groupId))) {
      // Without its rules the group is known as a removed network's, also by the next process.
      const [present] = await groups.withIds([groupId]);
      await groups.disallow(groupId, present?.IpPermissions ?? []);
      removals.add(groupId);
    }
  }

  /**
   * Finds the networks of this instance by their groups' tags, and removes the groups of those that were being removed.
   */
  async found(): Promise<readonly NetworkRecord[]> {
    const { groups, instance, removals } = this.#options;
    const networks: NetworkRecord[] = [];
    for (const group of await groups.tagged(instanceTag, instance)) {
      const id = tagValue(group.Tags ?? [], networkTag);
      if (id === undefined || id === withoutNetwork) {
        continue;
      }
      this.#known.set(id, group);
      if ((group.IpPermissions ?? []).length === 0) {
        removals.add(group.GroupId ?? ""); // Taken back where the state knows the network.
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

  /** The group of a network that exists. */
  idOf(network: NetworkRecord): string {
    return this.#known.get(network.network?.id ?? "")?.GroupId ?? network.driverReference;
  }

  /**
   * Whether the file system's mount targets are known to let a network's containers in. If {@link ensure} has not asked
   * for it yet, or EC2 did not answer, this asks: an earlier process may have found no room for the rule.
   */
  async letsMountVolumes(network: NetworkRecord): Promise<boolean> {
    const id = network.network?.id ?? "";
    const known = this.#mounts.get(id);
    return known ?? (await this.#letMountVolumes(id, this.idOf(network)));
  }

  /** The group of containers without a network, made when the first of them starts. */
  async none(): Promise<string> {
    await this.#removingNone;
    this.#none ??= this.#makeNone();
    this.#none.catch(() => {
      this.#none = undefined;
    });
    return await this.#none;
  }

  /**
   * Removes the group of containers without a network; if an interface still holds it, a later call does. A start that
   * needs it meanwhile waits, and makes it anew.
   *
   * @param isNeeded whether there is a container without a network
   */
  async removeNone(isNeeded: () => boolean): Promise<void> {
    const removed = Promise.withResolvers<void>();
    this.#removingNone = removed.promise;
    try {
      const { groups, efsGroupId } = this.#options;
      const group = await groups.named(this.#nameOfNone);
      if (group === undefined || isNeeded()) {
        return;
      }
      this.#none = undefined;
      const groupId = group.GroupId ?? "";
      if (efsGroupId !== undefined) {
        await groups.disallow(efsGroupId, [permissionOf(nfsFrom(groupId))]);
        this.#efsGroup = undefined;
      }
      await groups.delete(groupId);
    } finally {
      this.#removingNone = undefined;
      removed.resolve();
    }
  }

  get #nameOfNone(): string {
    const hash = createHash("sha256").update(this.#options.instance).digest("hex");
    return `sockerless-net-none-${shortId(hash)}`;
  }

  async #complete(network: Network, group: SecurityGroup): Promise<string> {
    const groupId = group.GroupId ?? "";
    this.#known.set(network.id, group);
    this.#options.removals.cancel(groupId);
    const connected = !["false", "0"].includes(network.options[iccOption] ?? "");
    await this.#giveRules(group, { connected, leadsOut: !network.internal });
    await this.#letMountVolumes(network.id, groupId);
    return groupId;
  }

  async #makeNone(): Promise<string> {
    const { groups, instance } = this.#options;
    const wanted: NewGroup = {
      name: this.#nameOfNone,
      description: "sockerless containers without a network",
      tags: [
        { Key: networkTag, Value: withoutNetwork },
        { Key: instanceTag, Value: instance },
      ],
    };
    const group = (await groups.named(wanted.name)) ?? (await groups.create(wanted));
    await this.#giveRules(group, { connected: false, leadsOut: false });
    await this.#letMountVolumes(withoutNetwork, group.GroupId ?? "");
    return group.GroupId ?? "";
  }

  async #giveRules(group: SecurityGroup, { connected, leadsOut }: Reach): Promise<void> {
    const { groups, efsGroupId, callbackPort } = this.#options;
    const agentPeers = await this.#peersOfAgents();
    const context = { groupId: group.GroupId ?? "", connected, agentPeers, efsGroupId, callbackPort };
    await groups.allow(group, ingressRules(context));
    if (!leadsOut) {
      await groups.allowOut(group, egressRules(context)); // EC2 has opened the others.
    }
  }

  /**
   * A group has room for 60 rules, so many networks at a time can have the file system's. That EC2 has refused it is
   * remembered; a fault that passes is not.
   *
   * @returns whether this one is known to have it
   */
  async #letMountVolumes(networkId: string, groupId: string): Promise<boolean> {
    const { groups, efsGroupId } = this.#options;
    if (efsGroupId === undefined) {
      return false;
    }
    this.#efsGroup ??= groups.withIds([efsGroupId]).then(([group]) => group);
    try {
      const group = await this.#efsGroup;
      await groups.allow(group ?? { GroupId: efsGroupId }, [nfsFrom(groupId)]);
      this.#mounts.set(networkId, true);
      return true;
    } catch (error) {
      this.#efsGroup = undefined;
      const about = { err: error, network: networkId, group: efsGroupId };
      if (isRefusal(error)) {
        this.#mounts.set(networkId, false);
        this.#logger.warn(
          about,
          "the file system's security group takes no rule for this network: its containers with volumes will carry the configured groups too",
        );
      } else {
        this.#logger.warn(
          about,
          "it is not known whether the file system's security group lets this network in: the next start of a container with volumes asks again",
        );
      }
      return false;
    }
  }

  /** The peers that may reach agents: the configured ones, else those of the configured groups, asked once. */
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

/** The rule in the group of the file system's mount targets that lets another group reach it. */
export function nfsFrom(groupId: string): Rule {
  return { tcpPort: nfsPort, peer: { group: groupId } };
}
