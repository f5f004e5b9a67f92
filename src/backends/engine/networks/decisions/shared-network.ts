/**
 * Containers that share a network (`--network container:X`) although each has an interface of its own. Pure.
 */
import { systemError } from "../../../../common/errors.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../../../driver/driver.ts";
import type { JoinedNetwork } from "../../../driver/workload-spec.ts";
import type { State } from "../../../state/state.ts";
import { containerOfMode, modeOfContainer } from "../../../model/container-mode.ts";
import { containerOfId, holderOfName } from "../../containers/decisions/lookup.ts";
import { hasProcess, hostConfigOf } from "../../../model/records.ts";
import { networkPlanOf } from "./endpoints.ts";

/** Dependencies of these decisions. */
export interface SharingContext {
  readonly driver: Pick<Driver, "sharing">;
  readonly state: State;
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
  const passed = new Set([record]);
  let owner = record;
  for (let next = joinedBy(context, owner); next !== undefined; next = joinedBy(context, owner)) {
    if (passed.has(next)) {
      const chain = [...passed];
      return firstById(chain.slice(chain.indexOf(next)));
    }
    passed.add(next);
    owner = next;
  }
  return owner;
}

function firstById(records: readonly ContainerRecord[]): ContainerRecord {
  return records.reduce((first, each) => (each.id < first.id ? each : first));
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
 * The starting or running containers that share one network, including the given one; those that shared a removed
 * container's network still share it with each other. Empty if the driver implements sharing.
 */
export function sharersOf(context: SharingContext, record: ContainerRecord): readonly ContainerRecord[] {
  if (context.driver.sharing.kind !== "agents") {
    return [];
  }
  const { containers } = context.state;
  const network = networkKeyOf(context, record);
  const owner = containers.get(network);
  const members = new Set(owner === undefined ? containers.inMode(modeOfContainer(network)) : [owner]);
  for (const { id, name } of members) {
    // The loop also visits elements that it adds.
    for (const each of [id, name].flatMap((reference) => containers.inMode(modeOfContainer(reference)))) {
      if (joinedBy(context, each)?.id === id) {
        members.add(each);
      }
    }
  }
  return [...members].filter((each) => hasProcess(each) || each.phase === Phase.STARTING);
}

/** Key of a network, the same for all containers that share it. */
function networkKeyOf(context: SharingContext, record: ContainerRecord): string {
  const owner = networkOwnerOf(context, record);
  return referenceOf(context, owner) ?? owner.id;
}
