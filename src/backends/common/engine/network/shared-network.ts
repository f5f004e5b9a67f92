/** Which containers share a network (`--network container:X`) where each has an interface of its own. Pure. */
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { JoinedNetwork, Policy } from "../../driver.ts";
import type { State } from "../../state/state.ts";
import { containerOfMode, modeOfContainer } from "../container-mode.ts";
import { containerOfId, holderOfName } from "../lookup.ts";
import { hasProcess, hostConfigOf } from "../records.ts";
import { networkPlanOf } from "./endpoints.ts";

/** What of the engine these decisions need. */
export interface SharingContext {
  readonly driver: { readonly policy: Pick<Policy, "joinsNetworksByAgents"> };
  readonly state: State;
}

/**
 * Whose network a container shares that starts; undefined: nobody's, or the driver sees to it.
 *
 * @throws as {@link networkPlanOf}, for each of a chain
 */
export function joinedNetworkOf(context: SharingContext, record: ContainerRecord): JoinedNetwork | undefined {
  if (context.driver.policy.joinsNetworksByAgents !== true) {
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
 * The container whose network another one has: its own, unless it shares somebody's. Of a chain that leads to one which
 * is gone, the last that is there.
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

/** What a container names whose network it shares by agents; undefined: it shares none. */
function referenceOf({ driver }: SharingContext, record: ContainerRecord): string | undefined {
  const { networkMode } = hostConfigOf(record);
  return driver.policy.joinsNetworksByAgents === true ? containerOfMode(networkMode) : undefined;
}

/** Whether a container has joined another one. */
export function isJoined(context: SharingContext, record: ContainerRecord): boolean {
  return referenceOf(context, record) !== undefined;
}

/**
 * The containers that start or run and have one network, that one among them: those that share with one which is gone
 * still do so with each other. Empty: the driver sees to it.
 */
export function sharersOf(context: SharingContext, record: ContainerRecord): readonly ContainerRecord[] {
  if (context.driver.policy.joinsNetworksByAgents !== true) {
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

/** The same for all that share a network. */
function networkKeyOf(context: SharingContext, record: ContainerRecord): string {
  const owner = networkOwnerOf(context, record);
  return referenceOf(context, owner) ?? owner.id;
}
