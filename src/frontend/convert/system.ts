/** The backend's description of itself as Docker's `/info` and `/version`. */
import { isAddressRange } from "../../common/address-range.ts";
import type { Component, GetInfoResponse } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { type ApiVersion, maximumApiVersion, minimumApiVersion, mobyVersion } from "../api-version.ts";
import { listOrNull, rfc3339Nano, unlessEmpty } from "./json-values.ts";

/** The default registry. */
const indexServer = "https://index.docker.io/v1/";

/** Docker's names of architectures that the kernel names differently. */
const goArchitectures: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  aarch64: "arm64",
  armv7l: "arm",
  i686: "386",
};

/** Facts about the frontend itself. */
export interface FrontendFacts {
  readonly isDebugging: boolean;
  readonly openFiles: number;
  /** The number of active resources of the event loop, reported in place of goroutines. */
  readonly waits: number;
}

/** The body of `GET /info`. */
export function infoToJson(
  info: GetInfoResponse,
  frontend: FrontendFacts,
  version: ApiVersion,
): Record<string, unknown> {
  const has = (controller: string): boolean => info.cgroupControllers.includes(controller);
  return {
    ID: info.id,
    Containers: info.containersRunning + info.containersPaused + info.containersStopped,
    ContainersRunning: info.containersRunning,
    ContainersPaused: info.containersPaused,
    ContainersStopped: info.containersStopped,
    Images: info.images,
    Driver: info.storageDriver,
    DriverStatus: info.driverStatus.map(({ key, value }) => [key, value]),
    Plugins: {
      Volume: info.volumeDrivers,
      Network: info.networkDrivers,
      Authorization: null,
      Log: info.logDrivers,
    },
    MemoryLimit: has("memory"),
    SwapLimit: has("memory"),
    CpuCfsPeriod: has("cpu"),
    CpuCfsQuota: has("cpu"),
    CPUShares: has("cpu"),
    CPUSet: has("cpuset"),
    PidsLimit: has("pids"),
    IPv4Forwarding: info.ipv4Forwarding,
    Debug: frontend.isDebugging,
    NFd: frontend.openFiles,
    OomKillDisable: info.cgroupVersion === "1" && has("memory"),
    NGoroutines: frontend.waits,
    SystemTime: rfc3339Nano(info.now),
    LoggingDriver: info.loggingDriver,
    CgroupDriver: info.cgroupDriver,
    CgroupVersion: unlessEmpty(info.cgroupVersion),
    NEventsListener: info.eventsListeners,
    KernelVersion: orUnknown(info.kernelVersion, version),
    OperatingSystem: orUnknown(info.operatingSystem, version),
    OSVersion: info.osVersion,
    OSType: info.osType,
    Architecture: info.architecture,
    IndexServerAddress: indexServer,
    RegistryConfig: registryConfig(info.insecureRegistries, version),
    NCPU: info.ncpu,
    MemTotal: info.memTotal,
    GenericResources: null,
    DockerRootDir: info.rootDir,
    HttpProxy: "",
    HttpsProxy: "",
    NoProxy: "",
    Name: info.name,
    Labels: [
      `sockerless.backend=${info.backend}`,
      `sockerless.version=${info.version}`,
      ...(info.pool === "" ? [] : [`sockerless.pool=${info.pool}`]),
    ],
    ExperimentalBuild: false,
    ServerVersion: mobyVersion,
    Runtimes: runtimes(info),
    DefaultRuntime: info.defaultRuntime,
    Swarm: {
      NodeID: "",
      NodeAddr: "",
      LocalNodeState: "inactive",
      ControlAvailable: false,
      Error: "",
      RemoteManagers: null,
    },
    LiveRestoreEnabled: true,
    Isolation: "",
    InitBinary: "sockerless-agent",
    ContainerdCommit: commit("N/A", version),
    RuncCommit: commit(runtimeCommit(info), version),
    InitCommit: commit(info.version, version), // The agent itself, which is part of this version.
    SecurityOptions: securityOptions(info, version),
    DefaultAddressPools:
      info.defaultAddressPools.length === 0
        ? undefined
        : info.defaultAddressPools.map(({ base, size }) => ({ Base: base, Size: size })),
    ...(version.before("1.49") || info.firewallBackend === ""
      ? {}
      : { FirewallBackend: { Driver: info.firewallBackend } }),
    CDISpecDirs: [],
    Warnings: listOrNull(info.warnings),
    ...(version.before("1.50") ? { BridgeNfIptables: false, BridgeNfIp6tables: false } : {}),
  };
}

/** Stands in for Go's version: the CLI shows the field, and docker-java's tests require it. */
const noGo = "N/A";

/** The body of `GET /version`. */
export function versionToJson(info: GetInfoResponse): Record<string, unknown> {
  const arch = goArchitectures[info.architecture] ?? info.architecture;
  const engine = {
    Name: "Engine",
    Version: mobyVersion,
    Details: {
      ApiVersion: maximumApiVersion,
      Arch: arch,
      Experimental: "false",
      GoVersion: noGo,
      KernelVersion: info.kernelVersion,
      MinAPIVersion: minimumApiVersion,
      Os: info.osType,
    },
  };
  const own = { Name: "sockerless", Version: info.version, Details: { Backend: info.backend } };
  return {
    Platform: { Name: `Sockerless ${info.version} (${info.backend})` },
    Components: [engine, own, ...info.components.map(componentToJson)],
    Version: mobyVersion,
    ApiVersion: maximumApiVersion,
    MinAPIVersion: minimumApiVersion,
    GitCommit: "",
    GoVersion: noGo,
    Os: info.osType,
    Arch: arch,
    KernelVersion: unlessEmpty(info.kernelVersion),
  };
}

function componentToJson(component: Component): Record<string, unknown> {
  const details = Object.keys(component.details).length === 0 ? undefined : component.details;
  return { Name: component.name, Version: component.version, Details: details };
}

function orUnknown(text: string, version: ApiVersion): string {
  return text === "" && version.before("1.39") ? "<unknown>" : text;
}

function registryConfig(insecure: readonly string[], version: ApiVersion): Record<string, unknown> {
  const ranges = insecure.filter(isAddressRange);
  const hosts = insecure.filter((each) => !isAddressRange(each));
  const index = (Name: string, isOfficial: boolean) => [
    Name,
    { Name, Mirrors: [], Secure: isOfficial, Official: isOfficial },
  ];
  return {
    ...(version.before("1.47")
      ? { AllowNondistributableArtifactsCIDRs: null, AllowNondistributableArtifactsHostnames: null }
      : {}),
    InsecureRegistryCIDRs: [...ranges, "::1/128", "127.0.0.0/8"],
    IndexConfigs: Object.fromEntries([index("docker.io", true), ...hosts.map((host) => index(host, false))]),
    Mirrors: null,
  };
}

function runtimes(info: GetInfoResponse): Record<string, unknown> {
  return Object.fromEntries(info.runtimes.map(({ name, path }) => [name, { path: unlessEmpty(path) }]));
}

/** Some builds name a version instead of a commit. */
function runtimeCommit(info: GetInfoResponse): string {
  const runtime = info.runtimes.find(({ name }) => name === info.defaultRuntime);
  return runtime?.commit || runtime?.version || "N/A";
}

function commit(id: string, version: ApiVersion): Record<string, unknown> {
  return { ID: id, Expected: version.before("1.49") ? id : undefined };
}

/** Until 1.24 the names alone, since then `name=seccomp,profile=builtin`. */
function securityOptions(info: GetInfoResponse, version: ApiVersion): readonly string[] {
  if (version.atLeast("1.25")) {
    return info.securityOptions;
  }
  return info.securityOptions.map((option) => /(?:^|,)name=([^,]*)/.exec(option)?.[1] ?? option);
}
