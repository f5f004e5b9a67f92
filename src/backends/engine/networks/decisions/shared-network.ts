/**
 * Containers that share a network (`--network container:X`) although each has an interface of its own. Pure.
 */
import { systemError } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../../../driver/driver.ts";
import type { JoinedNetwork } from "../../../driver/workload-spec.ts";
import type { State } from "../../../state/state.ts";
import { containerOfMode } from "../../../model/container-mode.ts";
import { containerOfId, holderOfName } from "../../containers/decisions/lookup.ts";
import { hostConfigOf, isUp } from "../../../model/records.ts";
import { networkPlanOf } from "./endpoints.ts";

/** Dependencies of these decisions. */
export interface SharingContext {
  readonly driver: Pick<Driver, "sharing">;
  readonly state: State;
}

/** Shared networks as one version of the table has them, each found when it is first asked for; all by ID. */
interface Known {
  /** The owners of containers' networks. */
  readonly owners: Map<string, string>;
  /** The starting or running containers of each network that one of them has joined, by its key. */
  sharers?: ReadonlyMap<string, readonly string[]>;
}

/** By version of the table: a pass over containers resolves each chain, and groups those that are up, once. */
const knownByVersion = new WeakMap<object, Known>();

function knownOf({ state }: SharingContext): Known {
  const { sharing } = state.containers;
  const known = knownByVersion.get(sharing) ?? { owners: new Map() };
  knownByVersion.set(sharing, known);
  return known;
}

/**
 * The network that a starting container shares, with its owner; undefined if it shares none, or the driver implements
 * sharing.
 *
 * @throws as {@link networkPlanOf}, for each container of a chain; system: the chain leads round in a circle
 */
export function joinedNetworkOf(context: SharingContext, record: ContainerRecord): JoinedNetwork | undefined {
  if (context.driver.sharing.kind !== "agents") {
    return undefined;
  }
  let owner = record;
  let plan = networkPlanOf(context.state, owner);
  const passed = new Set([record]);
  while (plan.kind === "container") {
    owner = containerOfId(context.state, plan.containerId);
    if (passed.has(owner)) {
      throw systemError(`cannot join the network of container ${owner.name}, which has joined its own`);
    }
    passed.add(owner);
    plan = networkPlanOf(context.state, owner);
  }
  return owner === record ? undefined : { owner, plan };
}

/**
 * Owner of a container's network: itself, unless it shares another's. If a chain leads to a removed container, the last
 * existing one in it; if it leads round in a circle, which names allow, the one with the first ID there.
 */
export function networkOwnerOf(context: SharingContext, record: ContainerRecord): ContainerRecord {
  const { owners } = knownOf(context);
  const passed = new Set<string>();
  let last = record;
  while (!passed.has(last.id) && !owners.has(last.id)) {
    passed.add(last.id);
    last = joinedBy(context, last) ?? last; // The end of a chain is a circle of one.
  }
  const chain = [...passed];
  const owner = owners.get(last.id) ?? firstOf(chain.slice(chain.indexOf(last.id)));
  for (const id of chain) {
    owners.set(id, owner);
  }
  return owner === record.id ? record : (context.state.containers.get(owner) ?? record);
}

function firstOf(ids: readonly string[]): string {
  return ids.reduce((first, id) => (id < first ? id : first));
}

/** The container whose network another one has joined; undefined if it does not exist. */
export function joinedBy(context: SharingContext, record: ContainerRecord): ContainerRecord | undefined {
  const { state } = context;
  const reference = referenceOf(context, record);
  return reference === undefined
    ? undefined
    : (state.containers.get(reference) ?? holderOfName(state, reference));
}

/** Name or ID of the container whose network another one shares by agents; undefined if it shares none. */
function referenceOf({ driver }: SharingContext, record: ContainerRecord): string | undefined {
  const { networkMode } = hostConfigOf(record);
  return driver.sharing.kind === "agents" ? containerOfMode(networkMode) : undefined;
}

/** Whether a container has joined another one. */
export function isJoined(context: SharingContext, record: ContainerRecord): boolean {
  return referenceOf(context, record) !== undefined;
}

/**
 * IDs of the starting or running containers that share one network, including the given one; those that shared a removed
 * container's network still share it with each other. Empty if the driver implements sharing.
 */
export function sharersOf(context: SharingContext, record: ContainerRecord): readonly string[] {
  if (context.driver.sharing.kind !== "agents") {
    return [];
  }
  const known = knownOf(context);
  known.sharers ??= groupedSharers(context);
  const network = networkKeyOf(context, record);
  return known.sharers.get(network) ?? ownerUp(context, network);
}

function groupedSharers(context: SharingContext): Map<string, readonly string[]> {
  const sharers = new Map<string, Set<string>>();
  for (const each of context.state.containers.upAndJoined()) {
    const network = networkKeyOf(context, each);
    const group = sharers.get(network) ?? new Set(ownerUp(context, network));
    sharers.set(network, group.add(each.id)); // In a circle, the owner has joined another one.
  }
  return new Map([...sharers].map(([network, group]) => [network, [...group]]));
}

/** The container with a network of its own, if it starts or runs. */
function ownerUp({ state }: SharingContext, network: string): string[] {
  const owner = state.containers.get(network);
  return owner !== undefined && isUp(owner) ? [owner.id] : [];
}

/** Key of a network, the same for all containers that share it. */
function networkKeyOf(context: SharingContext, record: ContainerRecord): string {
  const owner = networkOwnerOf(context, record);
  return referenceOf(context, owner) ?? owner.id;
}
