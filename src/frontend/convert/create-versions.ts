/** Translation of a create request of an older API version into the newest version's meaning. */
import { create } from "@bufbuild/protobuf";

import { ownValue, setOwnValue } from "../../common/own-value.ts";
import { invalid } from "../../common/errors.ts";
import {
  BindOptionsSchema,
  type EndpointConfig,
  EndpointConfigSchema,
  type Mount,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ApiVersion, ApiVersionText } from "../api-version.ts";
import type { ContainerSettings } from "./container-settings.ts";
import { hasEndpointSettings, isContainerNetwork } from "./network-mode.ts";

/** Driver option of an endpoint that carries sysctls of its interface. */
const endpointSysctls = "com.docker.network.endpoint.sysctls";

/**
 * Drops fields that the client's version lacks, refuses what it cannot have meant, and moves old fields to where they
 * stand now.
 *
 * @param settings changed in place
 * @returns warnings for the client
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export function adaptCreateRequest(settings: ContainerSettings, version: ApiVersion): string[] {
  dropFieldsOfLaterVersions(settings, version);
  adaptMounts(settings.hostConfig.mounts, version);
  adaptEndpoints(settings, version);
  const warnings = [
    volumeDriverWarning(settings, version),
    migrateMacAddress(settings, version),
    migrateInterfaceSysctls(settings, version),
  ];
  return warnings.filter((warning) => warning !== undefined);
}

function dropFieldsOfLaterVersions({ config, hostConfig }: ContainerSettings, version: ApiVersion): void {
  if (version.before("1.25")) {
    hostConfig.autoRemove = false; // Before 1.25 clients removed the container themselves.
  }
  if (version.before("1.40")) {
    if (hostConfig.resources !== undefined) {
      hostConfig.resources.kernelMemoryTcp = 0n;
    }
    hostConfig.ipcMode ||= "shareable";
  }
  if (version.before("1.42")) {
    hostConfig.consoleHeight = 0;
    hostConfig.consoleWidth = 0;
  } else if (hostConfig.resources !== undefined) {
    hostConfig.resources.kernelMemory = 0n;
  }
  if (version.before("1.43")) {
    hostConfig.annotations = {};
  }
  if (version.before("1.44")) {
    hostConfig.bindsReadOnlyNonRecursive = true;
    if (config.healthcheck !== undefined) {
      config.healthcheck.startInterval = 0n;
    }
  }
}

function adaptMounts(mounts: readonly Mount[], version: ApiVersion): void {
  for (const mount of mounts) {
    const { bindOptions } = mount;
    if (bindOptions !== undefined && version.before("1.40")) {
      bindOptions.nonRecursive = false;
    }
    if (version.before("1.42")) {
      dropForeignOptions(mount);
    } else {
      refuseForeignOptions(mount);
    }
    if (mount.type === "bind" && version.before("1.44")) {
      if (bindOptions?.readOnlyForceRecursive === true) {
        throw invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer");
      }
      if (mount.readOnly) {
        // Before 1.44 read-only was never recursive.
        mount.bindOptions ??= create(BindOptionsSchema);
        mount.bindOptions.readOnlyNonRecursive = true;
      }
    }
    if (version.before("1.45") && (mount.volumeOptions?.subpath ?? "") !== "") {
      throw invalid("VolumeOptions.Subpath needs API v1.45 or newer");
    }
    if (version.before("1.48") && mount.type === "image") {
      throw invalid('Mount type "Image" needs API v1.48 or newer');
    }
  }
}

/** Drops options of another mount type, which were silently accepted before 1.42. */
function dropForeignOptions(mount: Mount): void {
  if (mount.bindOptions !== undefined) {
    mount.bindOptions.createMountpoint = false;
  }
  if (mount.type !== "volume") {
    delete mount.volumeOptions;
  }
  if (mount.type !== "tmpfs") {
    delete mount.tmpfsOptions;
  }
}

function refuseForeignOptions(mount: Mount): void {
  const foreign = [
    mount.volumeOptions !== undefined && mount.type !== "volume" ? "VolumeOptions" : undefined,
    mount.bindOptions !== undefined && mount.type !== "bind" ? "BindOptions" : undefined,
    mount.tmpfsOptions !== undefined && mount.type !== "tmpfs" ? "TmpfsOptions" : undefined,
  ].find((name) => name !== undefined);
  if (foreign !== undefined) {
    throw invalid(`${foreign} must not be specified on mount type ${JSON.stringify(mount.type)}`);
  }
}

function adaptEndpoints({ networking }: ContainerSettings, version: ApiVersion): void {
  const names = Object.keys(networking.endpoints);
  if (version.before("1.44") && names.length > 1) {
    throw invalid(`Container cannot be created with multiple network endpoints: ${names.join(", ")}`);
  }
  if (version.before("1.48")) {
    for (const endpoint of Object.values(networking.endpoints)) {
      endpoint.gwPriority = 0;
    }
  }
}

function volumeDriverWarning({ hostConfig }: ContainerSettings, version: ApiVersion): string | undefined {
  const ignored =
    hostConfig.volumeDriver !== "" &&
    version.atLeast("1.48") &&
    hostConfig.mounts.some(
      (mount) => mount.type === "volume" && (mount.volumeOptions?.driverConfig?.name ?? "") === "",
    );
  return ignored
    ? "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead"
    : undefined;
}

/** Moves the container's address to its endpoint, where it belongs since 1.44. */
function migrateMacAddress(settings: ContainerSettings, version: ApiVersion): string | undefined {
  const { config, hostConfig, networking } = settings;
  const address = config.macAddress;
  if (version.before("1.44")) {
    if (address === "") {
      for (const endpoint of Object.values(networking.endpoints)) {
        endpoint.macAddress = "";
      }
    } else if (hasEndpointSettings(hostConfig.networkMode)) {
      endpointOfNetworkMode(settings, version).macAddress = address;
    } else {
      throw invalid("conflicting options: mac-address and the network mode");
    }
    return undefined;
  }
  if (address === "") {
    return undefined;
  }
  if (hasEndpointSettings(hostConfig.networkMode)) {
    const endpoint = endpointOfNetworkMode(
      settings,
      version,
      "unable to migrate container-wide MAC address to a specific network: ",
    );
    if (endpoint.macAddress !== "" && endpoint.macAddress !== address) {
      throw invalid(
        "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
      );
    }
    endpoint.macAddress = address;
  }
  config.macAddress = "";
  return "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
}

/** Moves sysctls of eth0 to its endpoint, where they belong since 1.46; from 1.48 on they are refused. */
function migrateInterfaceSysctls(settings: ContainerSettings, version: ApiVersion): string | undefined {
  const { hostConfig } = settings;
  if (hostConfig.networkMode === "host" || isContainerNetwork(hostConfig.networkMode)) {
    return undefined;
  }
  const moved: [name: string, setting: string][] = [];
  for (const [name, value] of Object.entries(hostConfig.sysctls)) {
    const found = /^net\.([^.]*)\.([^.]*)\.(eth[^.]*)\.(.*)$/s.exec(name);
    if (found === null) {
      continue;
    }
    if (version.atLeast("1.48")) {
      throw invalid(
        `interface specific sysctl setting ${JSON.stringify(name)} must be supplied using driver option '${endpointSysctls}'`,
      );
    }
    const [, family = "", group = "", device, rest = ""] = found;
    if (device !== "eth0") {
      throw invalid(
        `unable to determine network endpoint for sysctl ${name}, use driver option '${endpointSysctls}' to set per-interface sysctls`,
      );
    }
    moved.push([name, `net.${family}.${group}.IFNAME.${rest}=${value}`]);
  }
  if (moved.length === 0) {
    return undefined;
  }
  const endpoint = endpointOfNetworkMode(settings, version);
  const given = endpoint.driverOpts[endpointSysctls];
  const added = moved.map(([, setting]) => setting).join(",");
  // The last one counts, and the endpoint's setting takes precedence over the container's.
  endpoint.driverOpts[endpointSysctls] = given === undefined ? added : `${added},${given}`;
  for (const [name] of moved) {
    delete hostConfig.sysctls[name];
  }
  const names = moved.map(([name]) => name).join(",");
  return `Migrated sysctl ${JSON.stringify(names)} to DriverOpts{${JSON.stringify(endpointSysctls)}:${JSON.stringify(added)}}.`;
}

/** The endpoint of the network that `NetworkMode` names; created if no endpoint was given at all. */
function endpointOfNetworkMode(
  { hostConfig, networking }: ContainerSettings,
  version: ApiVersion,
  errorPrefix = "",
): EndpointConfig {
  const onlyOneBefore: ApiVersionText = "1.44";
  const [first] = Object.values(networking.endpoints);
  if (first === undefined) {
    const endpoint = create(EndpointConfigSchema);
    setOwnValue(networking.endpoints, hostConfig.networkMode, endpoint);
    return endpoint;
  }
  const named = version.before(onlyOneBefore)
    ? first
    : ownValue(networking.endpoints, hostConfig.networkMode);
  if (named === undefined) {
    throw invalid(
      `${errorPrefix}HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks`,
    );
  }
  return named;
}
