/** Creates and removes networks; both are journalled beforehand, so that a crash leaves none half done. */
import { create } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { conflict, forbidden, fromUnknown, SockerlessError } from "../../../common/errors.ts";
import { newId, shortId } from "../../../common/ids.ts";
import {
  type CreateNetworkRequest,
  type IpamPool,
  IpamPoolSchema,
  type Network,
  NetworkSchema,
} from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { type NetworkRecord, NetworkRecordSchema, Phase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../../state/journal.ts";
import { activeEndpointsOf } from "../../state/container-table.ts";
import type { State } from "../../state/state.ts";
import type { EngineContext } from "../context.ts";
import { timestampOfNs } from "../../model/records.ts";
import { throwIfShuttingDown } from "../work/shutting-down.ts";
import { choosePool } from "./decisions/address-pools.ts";
import { bridgeNameOf, bridgeOptionsOf } from "../../model/bridge-options.ts";
import { formatAddress, formatCidr, overlaps, parseCidr } from "./decisions/cidr.ts";
import {
  isConfigurationInUse,
  validateConfiguration,
  withConfiguration,
} from "./decisions/config-networks.ts";
import { makeInFreePool, withPool } from "./free-pool.ts";
import { builtinNetworks, findNetwork } from "./decisions/networks.ts";
import {
  isIpv4,
  validateNameAndPools,
  validateNetwork,
  withIpVersions,
} from "./decisions/validate-network.ts";

/** The default bridge's pool, reserved even while it is free. */
const bridgePool = "172.17.0.0/16";

/** A created network. */
interface CreatedNetwork {
  readonly id: string;
  /** Names settings that are accepted but not applied; else empty. */
  readonly warning: string;
}

/**
 * Creates a network.
 *
 * @throws conflict: the name; invalid; not-found: a driver, or the source network; forbidden: overlapping subnets, or
 *   settings that conflict with the source network; not-implemented, naming the option
 */
export async function createNetwork(
  context: EngineContext,
  request: CreateNetworkRequest,
): Promise<CreatedNetwork> {
  const { driver, logger, state } = context;
  const asked = withIpVersions(request);
  validateNameAndPools(asked);
  validateConfiguration(asked);
  if (asked.configOnly) {
    return createConfiguration(context, asked);
  }
  const routes = asked.pools.some(isIpv4) ? [] : await driver.networks.usedRoutes();
  // No await between the checks and the commit that reserves name, subnet and settings.
  refuseTakenName(state, asked.name);
  const configured = withConfiguration(state, asked);
  const unapplied = validateNetwork(configured, driver.name, driver.networks.bridgeSettings);
  const taken = [...state.networks.values()];
  refuseTakenBridge(context, configured, taken);
  const wanted = configured.pools.find(isIpv4);
  const pool = poolFor(context, wanted, taken, routes);
  const record = create(NetworkRecordSchema, {
    network: create(NetworkSchema, {
      ...createdFrom(context, configured),
      scope: configured.scope === "" ? "local" : configured.scope,
      driver: "bridge",
      ipamDriver: "default",
      pools: [withoutNeedlessGateway(context, configured, pool, wanted?.gateway)],
      internal: configured.internal,
      attachable: configured.attachable,
      configFrom: configured.configFrom,
    }),
    phase: Phase.CREATING,
  });
  await context.state.commit((change) => change.networks.put(record));
  try {
    await finishCreation(context, record);
  } catch (error) {
    throwIfShuttingDown(context, error);
    await finishRemoval(context, record, []).catch((cause: unknown) =>
      context.logger.error({ err: cause, network: request.name }, "cannot take back a network that failed"),
    );
    throw error;
  }
  const warning =
    unapplied.length === 0 ? "" : `the ${driver.name} backend does not apply ${unapplied.join(", ")}`;
  if (warning !== "") {
    logger.warn({ network: request.name }, warning);
  }
  return { id: record.network?.id ?? "", warning };
}

/** Creates a network that only holds settings: a record unknown to the driver. */
async function createConfiguration(
  { state, clock }: EngineContext,
  request: CreateNetworkRequest,
): Promise<CreatedNetwork> {
  refuseTakenName(state, request.name);
  const network = create(NetworkSchema, {
    ...createdFrom({ clock }, request),
    scope: "local",
    driver: "null",
    ipamDriver: request.ipamDriver === "" ? "default" : request.ipamDriver,
    pools: request.pools,
    enableIpv6: request.enableIpv6,
    ipv4Disabled: request.enableIpv4 === false,
    configOnly: true,
  });
  const record = create(NetworkRecordSchema, { network, phase: Phase.UNSPECIFIED });
  await state.commit((change) => {
    change.networks.put(record);
    change.event(networkEvent(record, "create"));
  });
  return { id: network.id, warning: "" };
}

/** Fields of a new network of any kind: ID, time, and those of its request. */
function createdFrom(
  { clock }: Pick<EngineContext, "clock">,
  { name, ipamOptions, options, labels }: CreateNetworkRequest,
): Pick<Network, "id" | "name" | "ipamOptions" | "options" | "labels"> & { readonly created: Timestamp } {
  return { id: newId(), name, created: timestampOfNs(clock.nowNs()), ipamOptions, options, labels };
}

/** @throws conflict */
function refuseTakenName(state: State, name: string): void {
  if (state.networks.named(name) !== undefined) {
    throw conflict(`network with name ${name} already exists`);
  }
}

/** A pool with only a requested gateway, if the network's options make a default one unnecessary. */
function withoutNeedlessGateway(
  { driver }: EngineContext,
  { options, internal }: Pick<Network, "options" | "internal">,
  pool: IpamPool,
  asked = "",
): IpamPool {
  const needsOne =
    driver.networks.bridgeSettings !== "apply" || bridgeOptionsOf(options, internal).hasGateway;
  return needsOne ? pool : { ...pool, gateway: asked };
}

/** @throws forbidden */
function refuseTakenBridge(
  { driver }: EngineContext,
  { name, options }: CreateNetworkRequest,
  networks: readonly NetworkRecord[],
): void {
  if (driver.networks.bridgeSettings !== "apply") {
    return;
  }
  const bridge = bridgeNameOf(options);
  const holder = networks.find(
    ({ driverReference, network }) =>
      bridge !== "" &&
      network?.configOnly === false &&
      [driverReference, bridgeNameOf(network.options)].includes(bridge),
  )?.network;
  if (holder !== undefined) {
    throw forbidden(
      `cannot create network ${name}: conflicts with network ${holder.id} (${holder.name}): networks have same bridge name`,
    );
  }
}

/**
 * Removes a network.
 *
 * @param left ends the wait for other changes of the network; what has begun goes on
 * @throws not-found; forbidden: predefined, or containers are on it
 */
export async function removeNetwork(
  context: EngineContext,
  reference: string,
  left?: AbortSignal,
): Promise<void> {
  const { network } = findNetwork(context.state, reference);
  await context.networkLocks.run(network.id, () => removeLocked(context, reference), left);
}

async function removeLocked(context: EngineContext, reference: string): Promise<void> {
  const record = findNetwork(context.state, reference);
  const { id, name } = record.network;
  if (builtinNetworks.has(name)) {
    throw forbidden(`${name} is a pre-defined network and cannot be removed`);
  }
  if (record.network.configOnly) {
    if (isConfigurationInUse(context.state, record.network)) {
      throw forbidden(
        `error while removing network: configuration network ${JSON.stringify(name)} is in use`,
      );
    }
    await context.state.commit((change) => change.networks.delete(id)); // No event, as in Docker.
    return;
  }
  const active = activeEndpoints(context.state, id);
  if (active.length > 0) {
    throw forbidden(
      context.driver.networks.inUseMessage ??
        `error while removing network: network ${name} has active endpoints (${active.join(", ")})`,
    );
  }
  const removing = { ...record, phase: Phase.REMOVING };
  await context.state.commit((change) => change.networks.put(removing));
  try {
    await finishRemoval(context, removing, [networkEvent(record, "destroy")]);
  } catch (error) {
    throwIfShuttingDown(context, error);
    await context.state.commit((change) => change.networks.put(record));
    const { kind, message } = fromUnknown(error);
    throw new SockerlessError(kind, `error while removing network: ${message}`, error);
  }
}

/** Finishes a creation or removal that a crash interrupted. */
export async function settleNetwork(context: EngineContext, record: NetworkRecord): Promise<void> {
  if (record.phase === Phase.REMOVING) {
    await finishRemoval(context, record, [networkEvent(record, "destroy")]);
  } else {
    await finishCreation(context, record);
  }
}

async function finishCreation(context: EngineContext, planned: NetworkRecord): Promise<void> {
  const { record, reference } = await makeInFreePool(context.driver.networks, planned, (taken, refused) =>
    inAnotherPool(context, taken, refused),
  );
  await context.state.commit((change) => {
    change.networks.put({ ...record, driverReference: reference, phase: Phase.UNSPECIFIED });
    change.event(networkEvent(record, "create"));
  });
}

async function inAnotherPool(
  context: EngineContext,
  record: NetworkRecord,
  refused: readonly string[],
): Promise<NetworkRecord> {
  const routes = await context.driver.networks.usedRoutes();
  // No await between the choice and the commit that reserves the subnet.
  const pool = freePool(context, [...subnetsOf(context.state.networks.values()), ...routes, ...refused]);
  const moved = withPool(
    record,
    record.network === undefined ? pool : withoutNeedlessGateway(context, record.network, pool),
  );
  await context.state.commit((change) => change.networks.put(moved));
  return moved;
}

async function finishRemoval(
  context: EngineContext,
  record: NetworkRecord,
  events: readonly NewEvent[],
): Promise<void> {
  await context.driver.networks.remove(record);
  await context.state.commit((change) => {
    change.networks.delete(record.network?.id ?? "");
    for (const event of events) {
      change.event(event);
    }
  });
}

function networkEvent({ network }: NetworkRecord, action: "create" | "destroy"): NewEvent {
  return {
    type: "network",
    action,
    actorId: network?.id ?? "",
    attributes: { name: network?.name ?? "", type: network?.driver ?? "" },
  };
}

/** The active endpoints of a network, as listed in the refusal of a removal. */
export function activeEndpoints(state: State, networkId: string): string[] {
  return state.containers.activeOn(networkId).flatMap((container) =>
    activeEndpointsOf(container.endpoints)
      .filter((endpoint) => endpoint.networkId === networkId)
      .map(({ endpointId }) => `name:"${container.name}" id:"${shortId(endpointId)}"`),
  );
}

function poolFor(
  context: EngineContext,
  asked: IpamPool | undefined,
  taken: readonly NetworkRecord[],
  routes: readonly string[],
): IpamPool {
  const subnets = subnetsOf(taken);
  if (asked === undefined) {
    return freePool(context, [...subnets, ...routes]);
  }
  const subnet = parseCidr(asked.subnet);
  if (subnet === undefined) {
    throw forbidden("invalid pool request: invalid pool");
  }
  for (const other of subnets) {
    const parsed = parseCidr(other);
    if (parsed !== undefined && overlaps(parsed, subnet)) {
      throw forbidden("invalid pool request: Pool overlaps with other one on this address space");
    }
  }
  const range = parseCidr(asked.ipRange) ?? subnet;
  const first = range.base === subnet.base ? range.base + 1 : range.base;
  return create(IpamPoolSchema, {
    subnet: formatCidr(subnet),
    ipRange: asked.ipRange,
    gateway: asked.gateway || formatAddress(first),
    auxiliaryAddresses: asked.auxiliaryAddresses,
    configured: true,
  });
}

/** The next pool without overlap. @throws invalid: all are in use */
function freePool({ driver }: EngineContext, used: readonly string[]): IpamPool {
  const subnet = choosePool([bridgePool, ...used], driver.networks.addressPools);
  return create(IpamPoolSchema, { subnet: formatCidr(subnet), gateway: formatAddress(subnet.base + 1) });
}

/** The subnets of networks; a config-only network has none, its pools are for others. */
function subnetsOf(networks: Iterable<NetworkRecord>): string[] {
  return [...networks].flatMap(({ network }) =>
    network === undefined || network.configOnly ? [] : network.pools.map(({ subnet }) => subnet),
  );
}
