/** Connects and disconnects networks: at once for a running container, else at its next start. */
import { create } from "@bufbuild/protobuf";

import { ownValue } from "../../../common/own-value.ts";
import { conflict, forbidden, invalid, notImplemented, systemError } from "../../../common/errors.ts";
import {
  type EndpointConfig,
  EndpointConfigSchema,
  NetworkingConfigSchema,
} from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { NetworkEndpoint } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import type { Network } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { isContainerMode } from "../../model/container-mode.ts";
import type { EngineContext } from "../context.ts";
import { logUnapplied } from "../containers/create/unapplied-settings.ts";
import { networkEvents } from "../events/decisions/container-events.ts";
import type { LiveContainer } from "../containers/live/live.ts";
import { containerOfId, findContainer } from "../containers/decisions/lookup.ts";
import { hasProcess, hostConfigOf, withFields } from "../../model/records.ts";
import { reseal } from "../containers/agent/reseal.ts";
import { throwIfShuttingDown } from "../work/shutting-down.ts";
import { defaultGatewayOf } from "../../model/default-gateway.ts";
import { awaitAddresses, connectedEndpoint, releaseAddresses } from "./endpoint-addresses.ts";
import { placedEndpoint, type Endpoints } from "../../model/endpoints.ts";
import {
  plannedEndpoint,
  refuseForeignAddress,
  refuseTooManyNetworks,
  validateNetworking,
} from "./decisions/endpoints.ts";
import { namedNetworks } from "./decisions/names.ts";
import { announceChange, push, pushAddressToLinked, pushToNetworks } from "./name-pushes.ts";
import { builtinNetworks, findNetwork, type KnownNetwork } from "./decisions/networks.ts";

/**
 * Connects a container to a network.
 *
 * @param left ends the wait for other changes of the container; what has begun goes on
 * @throws not-found; invalid: settings, or mutually exclusive networks; forbidden: already connected, or the address is
 *   in use
 */
export async function connectNetwork(
  context: EngineContext,
  networkReference: string,
  containerReference: string,
  config: EndpointConfig = create(EndpointConfigSchema),
  left: AbortSignal,
): Promise<void> {
  const { id } = findContainer(context.state, containerReference);
  const live = context.live.of(id);
  await live.lock.run(async () => {
    const record = changeable(context, live, containerReference);
    const network = findNetwork(context.state, networkReference);
    refuseConnection(context, record, network.network, config);
    refuseForeignAddress(context.state, network.network.name, config.ipv4Address);
    logUnapplied(
      context,
      create(ContainerRecordSchema, {
        id,
        hostConfig: {},
        endpoints: { [network.network.name]: { config } },
      }),
    );
    if (hasProcess(record)) {
      await connectRunning(context, record, network, config);
      return;
    }
    if (ownValue(record.endpoints, network.network.name) === undefined) {
      const endpoint = plannedEndpoint(context.state, network.network.name, config);
      await putEndpoints(context, record, { ...record.endpoints, [network.network.name]: endpoint });
    }
  }, left);
}

/**
 * Disconnects a container; `left` as in {@link connectNetwork}.
 *
 * @throws not-found; invalid: the host's network; system, as in moby: it is not connected
 */
export async function disconnectNetwork(
  context: EngineContext,
  networkReference: string,
  containerReference: string,
  force: boolean,
  left: AbortSignal,
): Promise<void> {
  const { id } = findContainer(context.state, containerReference);
  const live = context.live.of(id);
  await live.lock.run(async () => {
    const record = changeable(context, live, containerReference);
    const network = networkToLeave(context, record, networkReference, force);
    const name = network?.network.name ?? networkReference;
    const endpoint = ownValue(record.endpoints, name);
    if (endpoint === undefined) {
      const the = hasProcess(record) ? "" : "the ";
      throw systemError(`container ${record.id} is not connected to ${the}network ${name}`);
    }
    const { [name]: _left, ...remaining } = record.endpoints;
    if (hasProcess(record) && network !== undefined) {
      await disconnectRunning(context, record, network, endpoint, remaining);
    } else {
      await putEndpoints(context, record, remaining);
    }
  }, left);
}

/**
 * The network to disconnect; undefined if it is gone but the container does not run or `force` is set, so that its
 * endpoint can be removed.
 *
 * @throws not-found
 */
function networkToLeave(
  context: EngineContext,
  record: ContainerRecord,
  reference: string,
  force: boolean,
): KnownNetwork | undefined {
  try {
    return findNetwork(context.state, reference);
  } catch (error) {
    if (hasProcess(record) && !force) {
      throw error;
    }
    return undefined;
  }
}

async function connectRunning(
  context: EngineContext,
  record: ContainerRecord,
  network: KnownNetwork,
  config: EndpointConfig,
): Promise<void> {
  const { name } = network.network;
  const { networks } = context.driver;
  if (ownValue(record.endpoints, name) !== undefined) {
    throw forbidden(`endpoint with name ${record.name} already exists in network ${name}`);
  }
  const planned = plannedEndpoint(context.state, name, config);
  await awaitAddresses(context.state, context.addresses, { [name]: planned }, context.shutdown);
  const taken = connectedEndpoint(context.state, context.addresses, record, name, planned);
  const endpoint = placedEndpoint(taken, record.reachableAddress);
  const next = withFields(record, { endpoints: { ...record.endpoints, [name]: endpoint } });
  const named = namedNetworks({ [name]: endpoint });
  // Recorded first, so that meanwhile the network is not removed and the address not reallocated.
  try {
    await context.state.commit((change) => change.containers.put(next));
  } catch (error) {
    releaseAddresses(context.addresses, { [name]: endpoint });
    throw error;
  }
  try {
    await networks.connect({
      before: record,
      after: next,
      network,
      endpoint,
      defaultGateway: gatewayOf(next),
    });
    await Promise.all([push(context, record.id), pushToNetworks(context, named, record.id)]);
  } catch (error) {
    throwIfShuttingDown(context, error);
    await networks
      .disconnect({ before: next, after: record, network, endpoint, defaultGateway: gatewayOf(record) })
      .catch((cause: unknown) =>
        context.logger.warn({ err: cause, container: record.id }, "a connection that failed may remain"),
      );
    const known = context.state.containers.get(record.id) ?? record;
    await putEndpoints(context, known, record.endpoints);
    announceChange(context, record.id, { [name]: endpoint }); // Its peers may already have its new names.
    releaseAddresses(context.addresses, { [name]: endpoint });
    throw error;
  }
  await context.state.commit((change) => {
    for (const event of networkEvents(next, { [name]: endpoint }, "connect")) {
      change.event(event);
    }
  });
  await Promise.all([pushAddressToLinked(context, record.id), reseal(context, record.id)]);
}

async function disconnectRunning(
  context: EngineContext,
  record: ContainerRecord,
  network: KnownNetwork,
  endpoint: NetworkEndpoint,
  remaining: Record<string, NetworkEndpoint>,
): Promise<void> {
  const { name } = network.network;
  if (network.network.driver === "host") {
    throw invalid(
      "cannot disconnect container from host network - container was created in host network mode",
    );
  }
  const next = withFields(record, { endpoints: remaining });
  const defaultGateway = gatewayOf(next);
  await context.driver.networks.disconnect({
    before: record,
    after: next,
    network,
    endpoint,
    defaultGateway,
  });
  const current = context.state.containers.get(record.id) ?? record; // its health may have changed
  await context.state.commit((change) => {
    change.containers.put(withFields(current, { endpoints: remaining }));
    for (const event of networkEvents(record, { [name]: endpoint }, "disconnect")) {
      change.event(event);
    }
  }, "happened");
  releaseAddresses(context.addresses, { [name]: endpoint });
  const left = namedNetworks({ [name]: endpoint });
  await Promise.all([
    push(context, record.id),
    pushToNetworks(context, left),
    pushAddressToLinked(context, record.id),
    reseal(context, record.id),
  ]);
}

function gatewayOf({ endpoints }: ContainerRecord): string {
  return defaultGatewayOf(endpoints) ?? "";
}

/** With the container's lock held. @throws not-found; conflict: it is being removed */
function changeable(context: EngineContext, live: LiveContainer, reference: string): ContainerRecord {
  const record = containerOfId(context.state, live.id, reference);
  if (live.run.isRemoving) {
    throw conflict(
      `Container ${live.id} is marked for removal and cannot be connected or disconnected to the network`,
    );
  }
  return record;
}

function refuseConnection(
  { driver }: EngineContext,
  record: ContainerRecord,
  network: Network,
  config: EndpointConfig,
): void {
  const { networkMode } = hostConfigOf(record);
  validateNetworking(create(NetworkingConfigSchema, { endpoints: { [network.name]: config } }));
  if (config.linkLocalIps.length > 0 && driver.networks.bridgeSettings === "apply") {
    throw notImplemented(`the ${driver.name} backend does not support --link-local-ip`);
  }
  if (isContainerMode(networkMode)) {
    throw invalid(
      "container sharing network namespace with another container or host cannot be connected to any other network",
    );
  }
  if (networkMode !== "host" && network.driver === "host") {
    throw invalid(
      "cannot connect container to host network - container must be created in host network mode",
    );
  }
  const others = Object.keys(record.endpoints).filter((name) => name !== network.name);
  refuseTooManyNetworks(others.length + 1);
  if (others.some((name) => builtinNetworks.get(name) === "host") || network.driver === "host") {
    if (others.length > 0) {
      throw invalid(
        "container sharing network namespace with another container or host cannot be connected to any other network",
      );
    }
  }
  if (others.length > 0 && (others.includes("none") || network.name === "none")) {
    throw invalid(
      "container cannot be connected to multiple networks with one of the networks in private (none) mode",
    );
  }
}

async function putEndpoints(
  context: EngineContext,
  record: ContainerRecord,
  endpoints: Endpoints,
): Promise<void> {
  const next = withFields(record, { endpoints: { ...endpoints } });
  await context.state.commit((change) => change.containers.put(next));
}
