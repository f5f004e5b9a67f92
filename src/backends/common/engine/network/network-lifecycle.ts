/** Making and removing networks. That one is being made or removed is journalled, so that a crash leaves none. */
import { create } from "@bufbuild/protobuf";

import { conflict, forbidden, fromUnknown, SockerlessError } from "../../../../common/errors.ts";
import { newId, shortId } from "../../../../common/ids.ts";
import {
  type CreateNetworkRequest,
  type IpamPool,
  IpamPoolSchema,
  NetworkSchema,
} from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import {
  type NetworkRecord,
  NetworkRecordSchema,
  Phase,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../../state/journal.ts";
import type { State } from "../../state/state.ts";
import type { EngineContext } from "../context.ts";
import { timestampOfNs } from "../records.ts";
import { throwIfShuttingDown } from "../shutting-down.ts";
import { choosePool } from "./address-pools.ts";
import { formatAddress, formatCidr, overlaps, parseCidr } from "./cidr.ts";
import { makeInFreePool, withPool } from "./free-pool.ts";
import { builtinNetworks, findNetwork } from "./networks.ts";
import { validateNetwork } from "./validate-network.ts";

/** The default bridge's own pool, which no user's network takes even while it is free. */
const bridgePool = "172.17.0.0/16";

/** A network that was made. */
interface CreatedNetwork {
  readonly id: string;
  /** Names what was accepted and is not applied; else empty. */
  readonly warning: string;
}

/**
 * Makes a network.
 *
 * @throws conflict: the name; invalid; not-found: a driver; forbidden: subnets that overlap; not-implemented: options, by
 *   name
 */
export async function createNetwork(
  context: EngineContext,
  request: CreateNetworkRequest,
): Promise<CreatedNetwork> {
  const { driver, logger } = context;
  const unapplied = validateNetwork(request, driver.name, driver.policy.bridgeSettings);
  const pools = request.pools.filter(({ subnet }) => !subnet.includes(":"));
  const routes = pools.length === 0 ? await context.driver.networks.usedRoutes() : [];
  // No await between the checks and the commit that takes name and subnet.
  const taken = [...context.state.networks.values()];
  if (taken.some(({ network }) => network?.name === request.name)) {
    throw conflict(`network with name ${request.name} already exists`);
  }
  const record = create(NetworkRecordSchema, {
    network: create(NetworkSchema, {
      id: newId(),
      name: request.name,
      created: timestampOfNs(context.clock.nowNs()),
      scope: "local",
      driver: "bridge",
      ipamDriver: "default",
      ipamOptions: request.ipamOptions,
      pools: [poolFor(context, pools[0], taken, routes)],
      internal: request.internal,
      attachable: request.attachable,
      options: request.options,
      labels: request.labels,
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

/** Removes a network. @throws not-found; forbidden: predefined, or containers are on it */
export async function removeNetwork(context: EngineContext, reference: string): Promise<void> {
  const { network } = findNetwork(context.state, reference);
  await context.networkLocks.run(network.id, () => removeLocked(context, reference));
}

async function removeLocked(context: EngineContext, reference: string): Promise<void> {
  const record = findNetwork(context.state, reference);
  const { id, name } = record.network;
  if (builtinNetworks.has(name)) {
    throw forbidden(`${name} is a pre-defined network and cannot be removed`);
  }
  const active = activeEndpoints(context.state, id);
  if (active.length > 0) {
    throw forbidden(
      context.driver.policy.networkInUseMessage ??
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

/** Finishes, behind a crash, what was begun with a network. */
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
  // No await between the choice and the commit that takes the subnet.
  const pool = freePool(context, [...subnetsOf(context.state.networks.values()), ...routes, ...refused]);
  const moved = withPool(record, pool);
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

/** The endpoints on a network of containers that run, as a refusal names them. */
export function activeEndpoints(state: State, networkId: string): string[] {
  return [...state.containers.values()].flatMap((container) =>
    Object.values(container.endpoints)
      .filter((endpoint) => endpoint.networkId === networkId && endpoint.endpointId !== "")
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

/** The next pool that overlaps none of these. @throws unavailable: all are taken */
function freePool({ driver }: EngineContext, used: readonly string[]): IpamPool {
  const subnet = choosePool([bridgePool, ...used], driver.networks.addressPools);
  return create(IpamPoolSchema, { subnet: formatCidr(subnet), gateway: formatAddress(subnet.base + 1) });
}

function subnetsOf(networks: Iterable<NetworkRecord>): string[] {
  return [...networks].flatMap(({ network }) => network?.pools.map(({ subnet }) => subnet) ?? []);
}
