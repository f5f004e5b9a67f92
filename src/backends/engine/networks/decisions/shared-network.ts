/**
 * Containers that share a network (`--network container:X`) although each has an interface of its own. Pure.
 */
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../../../driver/driver.ts";
import type { JoinedNetwork } from "../../../driver/workload-spec.ts";
import type { State } from "../../../state/state.ts";
import { containerOfMode, modeOfContainer } from "../../../model/container-mode.ts";
import { containerOfId, holderOfName } from "../../containers/decisions/lookup.ts";
import { hasProcess, hostConfigOf } from "../../../model/records.ts";
import { networkPlanOf } from "./endpoints.ts";

/** The engine's parts that these decisions need. */
export interface SharingContext {
  readonly driver: Pick<Driver, "sharing">;
  readonly state: State;
}

/**
 * The network that a starting container shares, with its owner; undefined: it shares none, or the driver sees
 * to it.
 *
 * @throws as {@link networkPlanOf}, for each of a chain
 */
export function joinedNetworkOf(context: SharingContext, record: ContainerRecord): JoinedNetwork | undefined {
  if (context.driver.sharing.kind !== "agents") {
    return undefined;
  }
  let owner = record;
  let plan = networkPlanOf(context.state, owner);
  while (plan.kind === "container") {
    owner = containerOfId(context.state, plan.containerId);
    plan = networkPlanOf(context.state, owner);
  }
  return owner === record ? undefined : { owner, plan };
}

/**
 * Owner of the network that a container has: itself, unless it shares another's. If a chain leads to a
 * container that is gone, the last one in it that is there.
 */
export function networkOwnerOf(context: SharingContext, record: ContainerRecord): ContainerRecord {
  let owner = record;
  for (let next = joinedBy(context, owner); next !== undefined; next = joinedBy(context, owner)) {
    owner = next;
  }
  return owner;
}

/** The container that another one has joined to share its network; undefined: none that is there. */
export function joinedBy(context: SharingContext, record: ContainerRecord): ContainerRecord | undefined {
  const { state } = context;
  const reference = referenceOf(context, record);
  return reference === undefined
    ? undefined
    : (state.containers.get(reference) ?? holderOfName(state, reference));
}

/** Name or ID of the container whose network another one shares by agents; undefined: it shares none. */
function referenceOf({ driver }: SharingContext, record: ContainerRecord): string | undefined {
  const { networkMode } = hostConfigOf(record);
  return driver.sharing.kind === "agents" ? containerOfMode(networkMode) : undefined;
}

/** Whether a container has joined another one. */
export function isJoined(context: SharingContext, record: ContainerRecord): boolean {
  return referenceOf(context, record) !== undefined;
}

/**
 * The containers that start or run and have one network, the given one among them; those that shared the
 * network of a container that is gone still share it with each other. Empty: the driver sees to it.
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
    // The loop reaches what is added meanwhile.
    for (const each of [id, name].flatMap((reference) => containers.inMode(modeOfContainer(reference)))) {
      if (joinedBy(context, each)?.id === id) {
        members.add(each);
      }
    }
  }
  return [...members].filter((each) => hasProcess(each) || each.phase === Phase.STARTING);
}

/** Key of a network: the same for all that share it. */
function networkKeyOf(context: SharingContext, record: ContainerRecord): string {
  const owner = networkOwnerOf(context, record);
  return referenceOf(context, owner) ?? owner.id;
}
