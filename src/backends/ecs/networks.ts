/**
 * A user-defined network is a security group of its containers' tasks, which lets them reach each other. Addresses are
 * virtual, and agents resolve names. The default network consists of the configured groups.
 */
import type { EC2Client } from "@aws-sdk/client-ec2";

import type { Clock } from "../../common/clock.ts";
import { isErrorKind } from "../../common/errors.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { NetworkRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { addressPools } from "./address-pools.ts";
import type { NetworkFabric } from "../driver/networks.ts";
import type { NetworkPlan } from "../driver/workload-spec.ts";
import type { AwsService } from "./aws/clients.ts";
import { isRefusal } from "../cloud/contract/cloud-error.ts";
import type { ServiceDiscovery } from "../cloud/contract/service-discovery.ts";
import { groupsTogether, mostGroups } from "./security-groups/groups-of-task.ts";
import {
  type CommonGroup,
  NetworkGroups,
  withoutNetwork,
  withVolumes,
} from "./security-groups/network-groups.ts";
import { PendingRemovals } from "./security-groups/pending-removals.ts";
import { SecurityGroups } from "./security-groups/security-groups.ts";

/** Settings and dependencies of {@link ecsNetworks}. */
export interface EcsNetworksOptions {
  readonly ec2: AwsService<EC2Client>;
  readonly subnets: readonly string[];
  /** Groups of the default network. */
  readonly securityGroups: readonly string[];
  /** CIDRs and groups with access to agents; if empty, those with access by the configured groups. */
  readonly agentIngress: readonly string[];
  /** TCP port at which agents call this backend; undefined if they are dialled. */
  readonly callbackPort: number | undefined;
  readonly efsSecurityGroupId: string | undefined;
  /** `shared`: all networks are the configured groups, and only their names differ. */
  readonly isolation: "security-group" | "shared";
  /** Name of this instance (`sockerless/<hex>`), in the tags of its resources. */
  readonly instance: string;
  readonly discovery: ServiceDiscovery;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Networks, with the details that tasks need. */
export interface EcsNetworks extends NetworkFabric {
  /**
   * The security groups of a task.
   *
   * @param mountsVolumes whether it needs access to the file system
   * @throws invalid: more groups than a task can have; conflict: no room for the rule of the file system; AwsError
   */
  groupsOf(plan: NetworkPlan, mountsVolumes: boolean): Promise<string[]>;
  /** Removes groups that are no network's and not needed. */
  sweep(isNeeded: Readonly<Record<CommonGroup, () => boolean>>): Promise<void>;
  /** Ends background work. */
  close(): Promise<void>;
}

/** The `driver_reference` of a network without a group of its own. */
const sharedReference = "shared";

/** The networks of this backend. */
export function ecsNetworks(options: EcsNetworksOptions): EcsNetworks {
  const { ec2, subnets, securityGroups, efsSecurityGroupId, clock, discovery } = options;
  const logger = componentLogger(options.logger, "networks");
  const groups = new SecurityGroups({ ec2, subnet: subnets[0] ?? "", clock });
  const removals = new PendingRemovals({ remove: (groupId) => networkGroups.delete(groupId), clock, logger });
  const networkGroups = new NetworkGroups({
    groups,
    removals,
    instance: options.instance,
    configuredGroups: securityGroups,
    agentIngress: options.agentIngress,
    callbackPort: options.callbackPort,
    efsGroupId: efsSecurityGroupId,
    logger,
  });
  const isShared = options.isolation === "shared";
  const ownGroup = (record: NetworkRecord): boolean => !isShared && isUserDefined(record);

  /** Adds the group with access to the file system: a rule for each network would take many of the few. */
  const admittedToVolumes = async (groupIds: readonly string[]): Promise<string[]> => {
    const own = groupsTogether(groupIds);
    if (efsSecurityGroupId === undefined || (await networkGroups.admitted(own)).length === own.length) {
      return own;
    }
    try {
      const volumes = await networkGroups.common(withVolumes);
      if (own.length < mostGroups) {
        return [...own, volumes];
      }
      const [one = ""] = [...(await networkGroups.admitted(own)), ...own];
      await networkGroups.admit(one); // A task has no more groups.
      return own;
    } catch (error) {
      const isForGood = isErrorKind(error, "conflict") || isRefusal(error);
      const groups = isForGood ? await networkGroups.admitted(own) : [];
      if (groups.length === 0) {
        throw error;
      }
      logger.warn(
        { err: error, groups },
        "a container reaches its volumes by rules of its networks' own: each goes with its network",
      );
      return own;
    }
  };

  const groupsOfNetworks = async (
    networks: readonly { readonly record: NetworkRecord }[],
    mountsVolumes: boolean,
  ): Promise<string[]> => {
    const own = networks.map(({ record }) => record).filter(ownGroup);
    const groupIds = own.map((record) => networkGroups.idOf(record));
    const isOnDefault = own.length < networks.length;
    const needsAccess = mountsVolumes && !isOnDefault;
    if (needsAccess && efsSecurityGroupId !== undefined) {
      return await admittedToVolumes(groupIds);
    }
    const together = groupsTogether([...groupIds, ...(isOnDefault || needsAccess ? securityGroups : [])]);
    if (needsAccess) {
      logger.warn(
        { networks: own.map(({ network }) => network?.name) },
        "a container with volumes carries the configured security groups beside its networks', as ecs.efs_security_group_id is not set: it reaches the default network's containers too",
      );
    }
    return together;
  };

  const groupsOfNone = async (mountsVolumes: boolean): Promise<string[]> => {
    if (isShared) {
      return [...securityGroups];
    }
    const groupId = await networkGroups.common(withoutNetwork);
    return mountsVolumes ? await admittedToVolumes([groupId]) : [groupId];
  };

  return {
    addressPools,
    bridgeSettings: "ignore",
    endpointAddresses: "virtual",
    async ensure(record) {
      if (record.network === undefined || !isUserDefined(record)) {
        return "";
      }
      return isShared ? sharedReference : await networkGroups.ensure(record.network);
    },
    async remove(record) {
      discovery.forgetNetwork(record.network?.id ?? "");
      // A network from before the setting was changed has its group under its name alone.
      const hasOwnGroup = record.driverReference !== sharedReference;
      if (hasOwnGroup ? isUserDefined(record) : !isShared) {
        await networkGroups.remove(hasOwnGroup ? record : { ...record, driverReference: "" });
      }
    },
    found: () => (isShared ? Promise.resolve([]) : networkGroups.found()),
    // Names reach the agent at once; a task's groups cannot be changed after its start.
    connect({ after, network, endpoint }) {
      const joined = Object.entries(after.endpoints);
      if (!isShared) {
        groupsTogether(
          joined.flatMap(([name, { networkId }]) => (name === "bridge" ? securityGroups : [networkId])),
        );
      }
      if (ownGroup(network)) {
        logger.warn(
          { container: after.id, network: network.network?.name },
          "a running container has joined a network: it is known there by its names, and traffic flows from its next start on",
        );
      }
      discovery.announce(after, endpoint.reachableAddress);
      return Promise.resolve();
    },
    disconnect({ before, after, network, endpoint }) {
      if (ownGroup(network)) {
        logger.warn(
          { container: after.id, network: network.network?.name },
          "a running container has left a network: its names are gone from there, and traffic stops at its end",
        );
      }
      discovery.withdraw(before.id, endpoint.networkId);
      return Promise.resolve();
    },
    renamed(after) {
      discovery.withdraw(after.id);
      discovery.announce(after, after.reachableAddress);
    },
    usedRoutes: () => Promise.resolve([]),
    async groupsOf(plan, mountsVolumes) {
      switch (plan.kind) {
        case "none":
          return await groupsOfNone(mountsVolumes);
        case "networks": // Possibly none: a container may be disconnected from all.
          return plan.networks.length === 0
            ? await groupsOfNone(mountsVolumes)
            : await groupsOfNetworks(plan.networks, mountsVolumes);
        default:
          return groupsTogether(securityGroups);
      }
    },
    async sweep(isNeeded) {
      if (!isShared) {
        await networkGroups.removeCommon(withoutNetwork, isNeeded[withoutNetwork]);
        await networkGroups.removeCommon(withVolumes, isNeeded[withVolumes]);
      }
    },
    async close() {
      await removals.close();
    },
  };
}

/** Whether a user has created a network: not `bridge`, `host` or `none`. */
function isUserDefined({ network }: NetworkRecord): boolean {
  return network !== undefined && network.driver === "bridge" && network.name !== "bridge";
}
