/**
 * Creation of a container through a container's Docker socket. Every set field of the request must be allowed here, and
 * every reference is resolved among the objects that the client may see.
 */
import {
  ContainerConfigSchema,
  type EndpointConfig,
  EndpointConfigSchema,
  type HostConfig,
  HostConfigSchema,
  type Mount,
  MountSchema,
  NetworkingConfigSchema,
  ResourcesSchema,
  VolumeOptionsSchema,
  BindOptionsSchema,
  DriverConfigSchema,
} from "../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type CreateContainerRequest,
  CreateContainerRequestSchema,
} from "../../../gen/sockerless/backend/v1/container_pb.ts";
import type { IpamPool, Network } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { conflict, invalid, notFound } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import { ownValue, setOwnValue } from "../../../common/own-value.ts";
import { containerOfMode, modeOfContainer } from "../../model/container-mode.ts";
import { askedCapabilities, defaultCapabilities } from "../../security/linux-capabilities.ts";
import { isWellKnownSocket } from "../../model/docker-socket.ts";
import { isRemoved } from "../../model/records.ts";
import { innerSocketLabels } from "../../model/inner-socket-labels.ts";
import { parseLink, refuseTooManyLinks } from "../containers/decisions/links/parse-link.ts";
import { parseBind, parseVolumesFrom } from "../containers/decisions/mounts/parse-bind.ts";
import { refuseTooManyMounts } from "../containers/decisions/mounts/plan-mounts.ts";
import { bindSourceMissing } from "../containers/decisions/mounts/validate-mount.ts";
import { shownPools } from "../networks/decisions/address-pools.ts";
import { type Cidr, overlaps, parseCidr } from "../networks/decisions/cidr.ts";
import { isPredefined } from "../networks/decisions/endpoints.ts";
import { ensureVolume } from "../volumes/volumes.ts";
import { allowFields, notAllowed } from "./allow-fields.ts";
import type { Realm } from "./realm.ts";

const hostFields = [
  ...(["binds", "mounts", "volumesFrom", "volumeDriver", "tmpfs", "shmSize", "storageOpt"] as const),
  ...(["networkMode", "links", "portBindings", "publishAllPorts"] as const),
  ...(["dns", "dnsOptions", "dnsSearch", "extraHosts"] as const),
  ...(["ipcMode", "pidMode", "utsMode", "usernsMode", "cgroupnsMode"] as const),
  ...(["capAdd", "capDrop", "groupAdd", "securityOpt", "maskedPaths", "readonlyPaths", "sysctls"] as const),
  ...(["restartPolicy", "autoRemove", "init", "readonlyRootfs", "logConfig", "annotations"] as const),
  ...(["consoleHeight", "consoleWidth", "oomScoreAdj", "resources"] as const),
  "bindsReadOnlyNonRecursive",
] as const;

/** Limits that a client may set. */
export const resourceFields = [
  ...(["cpuShares", "nanoCpus", "cpuPeriod", "cpuQuota", "cpuRealtimePeriod", "cpuRealtimeRuntime"] as const),
  ...(["cpusetCpus", "cpusetMems", "cpuCount", "cpuPercent", "blkioWeight", "pidsLimit", "ulimits"] as const),
  ...(["memory", "memoryReservation", "memorySwap", "memorySwappiness", "kernelMemory"] as const),
  ...(["kernelMemoryTcp", "oomKillDisable"] as const),
] as const;

const configFields = [
  ...(["hostname", "domainname", "user", "attachStdin", "attachStdout", "attachStderr", "tty"] as const),
  ...(["openStdin", "stdinOnce", "env", "cmd", "healthcheck", "argsEscaped", "image", "volumes"] as const),
  ...(["workingDir", "entrypoint", "networkDisabled", "macAddress", "labels", "exposedPorts"] as const),
  ...(["stopSignal", "stopTimeout", "shell", "onBuild"] as const),
] as const;

/** Networks that may be created through a socket. */
const mostNetworks = 32;

/** Networks that a container may join through a socket. */
const mostEndpoints = 256;

/** Modes of namespaces that share nothing with the host or another container. */
const ownNamespaces: ReadonlySet<string> = new Set(["", "private", "none", "shareable"]);

/** Rewrites a request to what the client is allowed. @throws forbidden, not-found, conflict, invalid */
export async function admitCreation(realm: Realm, request: CreateContainerRequest): Promise<void> {
  allowFields(CreateContainerRequestSchema, request, [
    ...(["clientToken", "name", "config", "hostConfig", "networking", "platform"] as const),
  ]);
  const { config, hostConfig, networking } = request;
  refuseTooMany(request);
  allowFields(ContainerConfigSchema, config, configFields);
  allowFields(HostConfigSchema, hostConfig, hostFields);
  allowFields(ResourcesSchema, hostConfig?.resources, resourceFields);
  allowFields(NetworkingConfigSchema, networking, ["endpoints"]);
  refuseTakenName(realm, request.name);
  if (config !== undefined) {
    config.labels = realm.labelsFor(config.labels);
    await realm.image(config.image, request.platform);
  }
  if (hostConfig !== undefined) {
    admitNamespaces(realm, hostConfig);
    refuseMoreCapabilities(realm, hostConfig);
    hostConfig.links = hostConfig.links.map((link) => admitLink(realm, link));
    hostConfig.volumesFrom = hostConfig.volumesFrom.map((from) => admitVolumesFrom(realm, from));
  }
  const mode = hostConfig?.networkMode ?? "";
  const donor = containerOfMode(mode);
  const endpoints = networking?.endpoints ?? {};
  const names: string[] = [];
  for (const reference of new Set([
    ...(donor === undefined && mode !== "none" ? [mode || "bridge"] : []),
    ...Object.keys(endpoints),
  ])) {
    if (reference === "none" || reference === "host") {
      throw notFound(`network ${reference} not found`);
    }
    const network = realm.network(reference);
    admitEndpoint(realm, network, ownValue(endpoints, reference));
    names.push(network.name);
    if (network.name !== reference) {
      rename(endpoints, reference, network.name);
    }
    if (hostConfig?.networkMode === reference) {
      hostConfig.networkMode = network.name;
    }
  }
  refuseNameIn(realm, names, request.name);
  if (hostConfig !== undefined) {
    await admitMounts(realm, hostConfig, innerSocketLabels(config?.labels ?? {}));
  }
}

/** Refuses what a creation would refuse later, before each reference is looked up. @throws invalid */
function refuseTooMany({ hostConfig, networking }: CreateContainerRequest): void {
  const endpoints = Object.values(networking?.endpoints ?? {});
  for (const links of [hostConfig?.links, ...endpoints.map((endpoint) => endpoint.links)]) {
    refuseTooManyLinks(links ?? []);
  }
  const { binds = [], mounts = [], volumesFrom = [] } = hostConfig ?? {};
  refuseTooManyMounts(binds.length + mounts.length + volumesFrom.length);
  if (endpoints.length > mostEndpoints) {
    throw invalid(`too many networks: ${endpoints.length}, at most ${mostEndpoints}`);
  }
}

function rename(endpoints: Record<string, EndpointConfig>, from: string, to: string): void {
  const endpoint = ownValue(endpoints, from);
  if (endpoint !== undefined) {
    delete endpoints[from];
    setOwnValue(endpoints, to, endpoint);
  }
}

/**
 * Refuses a name that another container has, in whatever case, as names in networks have none, or that its ID begins
 * with, as others may name it by that. Reveals nothing else about that one.
 *
 * @throws conflict
 */
export function refuseTakenName(realm: Realm, asked: string): void {
  const name = asked.replace(/^\//, "");
  const isTaken = ({ id, name: other }: ContainerRecord): boolean =>
    other.toLowerCase() === name.toLowerCase() || isLikeId(name, id);
  for (const record of realm.context.state.containers.values()) {
    if (name !== "" && isTaken(record) && !isRemoved(record) && !realm.seesContainer(record)) {
      throw conflict(`Conflict. The container name "/${name}" is already in use.`);
    }
  }
}

/** As {@link refuseTakenName}, for a network. @throws conflict */
export function refuseTakenNetworkName(realm: Realm, name: string): void {
  for (const { network } of realm.context.state.networks.values()) {
    if (network !== undefined && isLikeId(name, network.id) && !realm.seesNetwork(network)) {
      throw conflict(`network with name ${name} already exists`);
    }
  }
}

/** Whether others would write a name for an ID: from as many digits on as a short ID has. */
function isLikeId(name: string, id: string): boolean {
  return name.length >= shortId(id).length && id.startsWith(name);
}

/** Refuses capabilities beyond Docker's default that the socket's own container has not. @throws forbidden */
function refuseMoreCapabilities(realm: Realm, hostConfig: HostConfig): void {
  const own = askedCapabilities(realm.hostConfig).added;
  const admitted = new Set([...defaultCapabilities, ...own]);
  const more = askedCapabilities(hostConfig).added.find(
    (name) => !admitted.has(name) && !own.includes("ALL"),
  );
  if (more !== undefined) {
    throw notAllowed(`HostConfig.capAdd ${more}`);
  }
}

function admitNamespaces(realm: Realm, hostConfig: HostConfig): void {
  for (const field of ["networkMode", "ipcMode", "pidMode"] as const) {
    const donor = containerOfMode(hostConfig[field]);
    if (donor !== undefined) {
      hostConfig[field] = modeOfContainer(realm.container(donor).id);
    } else if (field !== "networkMode" && !ownNamespaces.has(hostConfig[field])) {
      throw notAllowed(`HostConfig.${field} ${hostConfig[field]}`);
    }
  }
  for (const field of ["utsMode", "usernsMode", "cgroupnsMode"] as const) {
    if (!ownNamespaces.has(hostConfig[field])) {
      throw notAllowed(`HostConfig.${field} ${hostConfig[field]}`);
    }
  }
}

function admitLink(realm: Realm, link: string): string {
  const { name, alias } = parseLink(link);
  return `${realm.container(name).id}:${alias}`;
}

function admitVolumesFrom(realm: Realm, from: string): string {
  const { container } = parseVolumesFrom(from);
  return realm.container(container).id + from.slice(container.length);
}

/**
 * Checks how a container joins a network. A network that was not created through the socket has other users: there the
 * container gets no name ({@link refuseNameIn}), address or link of its own choice.
 */
export function admitEndpoint(realm: Realm, network: Network, endpoint: EndpointConfig | undefined): void {
  if (!realm.hasMade(network.labels)) {
    allowFields(EndpointConfigSchema, endpoint, ["hasIpamConfig", "gwPriority"]);
    return;
  }
  allowFields(EndpointConfigSchema, endpoint, [
    ...([
      "ipv4Address",
      "ipv6Address",
      "hasIpamConfig",
      "links",
      "aliases",
      "macAddress",
      "gwPriority",
    ] as const),
  ]);
  if (endpoint !== undefined) {
    endpoint.links = endpoint.links.map((link) => admitLink(realm, link));
  }
}

/**
 * Refuses a name by which other containers are reached in those of the networks that were not created through the
 * socket, and any with a dot where names resolve: `NAME.NETWORK` is another's, and so is what the world's DNS has.
 *
 * @throws conflict; forbidden
 */
export function refuseNameIn(realm: Realm, joined: readonly string[], asked: string): void {
  const networks = realm.othersNetworks(joined);
  const name = asked.replace(/^\//, "").toLowerCase();
  const named = [...networks].find((network) => !isPredefined(network));
  if (named !== undefined && name.includes(".")) {
    throw notAllowed(`the name ${JSON.stringify(name)}, which has a dot, in network ${named}`);
  }
  for (const record of networks.size === 0 ? [] : realm.context.state.containers.values()) {
    for (const [network, { dnsNames, config }] of Object.entries(record.endpoints)) {
      const names = [record.name, ...dnsNames, ...(config?.aliases ?? [])];
      if (
        networks.has(network) &&
        names.some((each) => each.toLowerCase() === name) &&
        !realm.seesContainer(record)
      ) {
        throw conflict(`the name ${JSON.stringify(name)} is in use in network ${network}`);
      }
    }
  }
}

/**
 * Refuses a network that would leave others no addresses: subnets of all networks are disjoint.
 *
 * @throws forbidden
 */
export function refuseOthersAddresses(realm: Realm, pools: readonly IpamPool[]): void {
  const made = realm.networks().filter(({ network }) => realm.hasMade(network.labels));
  if (made.length >= mostNetworks) {
    throw notAllowed(`more than ${mostNetworks} networks of one socket`);
  }
  const shared = shownPools(realm.context.driver.networks.addressPools);
  for (const asked of pools.map(({ subnet }) => parseCidr(subnet))) {
    const sizes = shared.filter(({ base }) => overlap(parseCidr(base), asked)).map(({ size }) => size);
    const least = Math.max(16, ...sizes);
    if (asked !== undefined && asked.prefix < least) {
      throw notAllowed(`a subnet larger than /${least} there`);
    }
  }
}

function overlap(one: Cidr | undefined, other: Cidr | undefined): boolean {
  return one !== undefined && other !== undefined && overlaps(one, other);
}

/** @param own labels for the container's volumes */
async function admitMounts(
  realm: Realm,
  hostConfig: HostConfig,
  own: Readonly<Record<string, string>>,
): Promise<void> {
  const { binds, mounts, volumeDriver } = hostConfig;
  for (const text of binds) {
    await admitMount(realm, parseBind(text, volumeDriver).mount, own);
  }
  for (const mount of mounts) {
    await admitMount(realm, mount, own);
  }
}

async function admitMount(realm: Realm, mount: Mount, own: Readonly<Record<string, string>>): Promise<void> {
  const { type, source, volumeOptions } = mount;
  allowFields(MountSchema, mount, [
    ...(["type", "source", "target", "readOnly", "consistency"] as const),
    ...(["bindOptions", "volumeOptions", "tmpfsOptions", "imageOptions"] as const),
  ]);
  allowFields(BindOptionsSchema, mount.bindOptions, [
    ...(["propagation", "nonRecursive", "createMountpoint", "readOnlyNonRecursive"] as const),
    "readOnlyForceRecursive",
  ]);
  allowFields(VolumeOptionsSchema, volumeOptions, ["noCopy", "labels", "subpath", "driverConfig"]);
  allowFields(DriverConfigSchema, volumeOptions?.driverConfig, ["name"]);
  switch (type) {
    case "bind":
      if (!isWellKnownSocket(source)) {
        throw bindSourceMissing(source);
      }
      return;
    case "volume":
      if (volumeOptions !== undefined) {
        volumeOptions.labels = realm.labelsFor(volumeOptions.labels);
      }
      if (source !== "") {
        const { name: driver = "" } = volumeOptions?.driverConfig ?? {};
        await ensureOwnVolume(realm, { name: source, driver, labels: { ...own, ...volumeOptions?.labels } });
      }
      return;
    case "image":
      await realm.image(source);
      return;
    case "tmpfs":
      return;
    default:
      throw notAllowed(`a mount of type ${JSON.stringify(type)}`);
  }
}

/**
 * Finds or creates a volume that belongs to the client.
 *
 * @throws not-found: it belongs to somebody else; the errors of a creation
 */
export async function ensureOwnVolume(
  realm: Realm,
  {
    name,
    driver,
    labels,
  }: { readonly name: string; readonly driver: string; readonly labels: Record<string, string> },
): Promise<void> {
  if (realm.context.state.volumes.has(name)) {
    realm.volume(name);
    return;
  }
  const wanted = { name, driver, options: {}, labels: realm.labelsFor(labels) };
  await ensureVolume(realm.context, wanted);
  realm.volume(name); // It may have been created by another meanwhile.
}
