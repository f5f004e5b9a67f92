/** Containers in a list and in an inspect: the backend's messages as Docker's JSON. */
import { statusName } from "../../common/container-status.ts";
import { ownValue } from "../../common/own-value.ts";
import type {
  ContainerDetail,
  ContainerState,
  ContainerSummary,
  Health,
  NetworkEndpoint,
  NetworkSettings,
  StartPhase,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerStatus } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { shortId } from "../../common/ids.ts";
import type { ApiVersion } from "../api-version.ts";
import { containerConfigToJson } from "./container-config.ts";
import {
  endpointsToJson,
  endpointSummariesToJson,
  globalIpv6Of,
  portMapToJson,
  portToJson,
} from "./endpoints.ts";
import { hostConfigToJson } from "./host-config.ts";
import {
  listOrNull,
  mapOrNull,
  rfc3339Nano,
  unixSeconds,
  unlessEmpty,
  unlessNoKeys,
  unlessZero,
} from "./json-values.ts";
import { mountPointToJson } from "./mounts.ts";
import { hasEndpointSettings, isUserDefinedNetwork } from "./network-mode.ts";
import { healthName, statusText } from "./status-text.ts";

/**
 * One element of `GET /containers/json`.
 *
 * @param nowMs milliseconds since the epoch, to which the status text is relative
 */
export function containerSummaryToJson(
  summary: ContainerSummary,
  version: ApiVersion,
  nowMs: number,
): Record<string, unknown> {
  const { state } = summary;
  return {
    Id: summary.id,
    Names: summary.names,
    Image: summary.image,
    ImageID: summary.imageId,
    Command: commandText(summary.path, summary.args),
    Created: unixSeconds(summary.created),
    Ports: summary.ports.map(portToJson),
    SizeRw: unlessZero(summary.sizeRw ?? 0n),
    SizeRootFs: unlessZero(summary.sizeRootFs ?? 0n),
    Labels: summary.labels,
    State: state === undefined ? "created" : statusName(state.status),
    Status: shownStatus(state, nowMs),
    HostConfig: {
      NetworkMode: unlessEmpty(summary.networkMode),
      Annotations: version.before("1.46") ? undefined : unlessNoKeys(summary.annotations),
    },
    NetworkSettings: { Networks: endpointSummariesToJson(summary.networks) },
    Mounts: summary.mounts.map(mountPointToJson),
  };
}

function shownStatus(state: ContainerState | undefined, nowMs: number): string {
  return state === undefined ? "Created" : statusText(state, nowMs);
}

/** The body of `GET /containers/{name}/json`. */
export function containerDetailToJson(detail: ContainerDetail, version: ApiVersion): Record<string, unknown> {
  const settings = detail.networkSettings;
  const networks = endpointsToJson(settings?.networks ?? {});
  if (version.before("1.45")) {
    addLegacyAliases(networks, detail);
  }
  return {
    Id: detail.id,
    Created: rfc3339Nano(detail.created),
    Path: detail.path,
    Args: detail.args,
    State: stateToJson(detail.state),
    Image: detail.imageId,
    ResolvConfPath: detail.resolvConfPath,
    HostnamePath: detail.hostnamePath,
    HostsPath: detail.hostsPath,
    LogPath: detail.logPath,
    Name: detail.name,
    RestartCount: detail.restartCount,
    Driver: detail.driver,
    Platform: detail.platform?.os ?? "linux",
    MountLabel: "",
    ProcessLabel: "",
    AppArmorProfile: detail.appArmorProfile,
    ExecIDs: listOrNull(detail.execIds),
    HostConfig: detail.hostConfig === undefined ? null : hostConfigToJson(detail.hostConfig),
    GraphDriver: { Data: mapOrNull(detail.graphDriverData), Name: detail.driver },
    SizeRw: detail.sizeRw,
    SizeRootFs: detail.sizeRootFs,
    Mounts: detail.mounts.map(mountPointToJson),
    Config: detail.config === undefined ? null : containerConfigToJson(withMacAddress(detail.config, detail)),
    NetworkSettings: { ...networkSettingsToJson(settings), Networks: networks },
    StartPhases: detail.startPhases.length === 0 ? undefined : detail.startPhases.map(phaseToJson),
  };
}

/** A phase of the container's last start; an extension of ours. */
function phaseToJson({ name, by, from, until, note }: StartPhase): Record<string, unknown> {
  return {
    Name: name,
    By: by,
    From: rfc3339Nano(from),
    Until: until === undefined ? undefined : rfc3339Nano(until),
    Note: unlessEmpty(note),
  };
}

/**
 * Adds the MAC address that was requested for the container's network, in every API version: before 1.44 the container
 * had it, and clients without a version read it there.
 */
function withMacAddress(config: ContainerConfig, detail: ContainerDetail): ContainerConfig {
  const mode = detail.hostConfig?.networkMode ?? "";
  if (config.macAddress !== "" || !hasEndpointSettings(mode)) {
    return config;
  }
  const macAddress = ownValue(detail.networkSettings?.networks ?? {}, mode)?.config?.macAddress ?? "";
  return { ...config, macAddress };
}

/** The command as lists show it: arguments with blanks are quoted, nothing is escaped. */
function commandText(path: string, args: readonly string[]): string {
  return [path, ...args.map((arg) => (arg.includes(" ") ? `'${arg}'` : arg))].join(" ");
}

function stateToJson(state: ContainerState | undefined): Record<string, unknown> {
  const status = state?.status ?? ContainerStatus.CREATED;
  const alive =
    status === ContainerStatus.RUNNING ||
    status === ContainerStatus.PAUSED ||
    status === ContainerStatus.RESTARTING;
  return {
    Status: statusName(status),
    Running: alive,
    Paused: status === ContainerStatus.PAUSED,
    Restarting: status === ContainerStatus.RESTARTING,
    OOMKilled: state?.oomKilled ?? false,
    Dead: status === ContainerStatus.DEAD,
    Pid: state?.pid ?? 0,
    ExitCode: state?.exitCode ?? 0,
    Error: state?.error ?? "",
    StartedAt: rfc3339Nano(state?.startedAt),
    FinishedAt: rfc3339Nano(state?.finishedAt),
    Health: state?.health === undefined ? undefined : healthToJson(state.health),
  };
}

function healthToJson(health: Health): Record<string, unknown> {
  return {
    Status: healthName(health.status),
    FailingStreak: health.failingStreak,
    Log: health.log.map((entry) => ({
      Start: rfc3339Nano(entry.start),
      End: rfc3339Nano(entry.end),
      ExitCode: entry.exitCode,
      Output: entry.output,
    })),
  };
}

/** `NetworkSettings` without `Networks`; the flat fields are those of the default bridge. */
function networkSettingsToJson(settings: NetworkSettings | undefined): Record<string, unknown> {
  const bridge: NetworkEndpoint | undefined = settings?.networks["bridge"];
  return {
    Bridge: "",
    SandboxID: settings?.sandboxId ?? "",
    SandboxKey: settings?.sandboxKey ?? "",
    Ports: portMapToJson(settings?.ports ?? []),
    HairpinMode: false,
    LinkLocalIPv6Address: "",
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge?.endpointId ?? "",
    Gateway: bridge?.gateway ?? "",
    ...globalIpv6Of(bridge),
    IPAddress: bridge?.ipAddress ?? "",
    IPPrefixLen: bridge?.ipPrefixLen ?? 0,
    IPv6Gateway: bridge?.ipv6Gateway ?? "",
    MacAddress: bridge?.macAddress ?? "",
  };
}

/** Until API 1.44 the short ID and the host name were among the aliases; since then they are in `DNSNames` only. */
function addLegacyAliases(networks: Record<string, Record<string, unknown>>, detail: ContainerDetail): void {
  for (const [name, endpoint] of Object.entries(networks)) {
    if (isUserDefinedNetwork(name)) {
      const aliases = (endpoint["Aliases"] as readonly string[] | null) ?? [];
      endpoint["Aliases"] = [...new Set([...aliases, shortId(detail.id), detail.config?.hostname ?? ""])];
    }
  }
}
