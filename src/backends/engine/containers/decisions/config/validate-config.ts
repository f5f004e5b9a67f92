/** Refuses container configurations that are invalid on any backend; Docker's texts. */
import { isIP } from "node:net";
import path from "node:path/posix";

import { invalid } from "../../../../../common/errors.ts";
import type {
  ContainerConfig,
  HealthConfig,
  HostConfig,
  RestartPolicy,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { validateCapabilities } from "../../../../security/linux-capabilities.ts";
import { containerOfMode, isContainerMode } from "../../../../model/container-mode.ts";
import { validateMount } from "../mounts/validate-mount.ts";
import { validatePortBindings } from "../../../../model/ports.ts";
import { parseSignal } from "../../../../model/signals.ts";
import { parseExtraHost } from "../../../../model/extra-hosts.ts";

/** Refuses an invalid configuration. @throws invalid */
export function validateConfig(config: ContainerConfig): void {
  if (config.workingDir !== "" && !path.isAbsolute(config.workingDir)) {
    throw invalid(`the working directory '${config.workingDir}' is invalid, it needs to be an absolute path`);
  }
  if (config.stopSignal !== "") {
    parseSignal(config.stopSignal);
  }
  for (const entry of config.env) {
    if (entry === "" || entry.startsWith("=")) {
      throw invalid(`invalid environment variable: ${entry}`);
    }
    if (entry.includes("\0")) {
      throw invalid("invalid environment variable: it contains a NUL byte");
    }
  }
  for (const argument of [...(config.entrypoint?.values ?? []), ...(config.cmd?.values ?? [])]) {
    if (argument.includes("\0")) {
      throw invalid("invalid command: an argument contains a NUL byte");
    }
  }
  if (config.healthcheck !== undefined) {
    validateHealthcheck(config.healthcheck);
  }
}

/** The shortest interval of a health check, nanoseconds. */
const shortestNs = 1_000_000n;

function validateHealthcheck(check: HealthConfig): void {
  const durations: readonly (readonly [string, bigint])[] = [
    ["Interval", check.interval],
    ["Timeout", check.timeout],
    ["StartPeriod", check.startPeriod],
    ["StartInterval", check.startInterval],
  ];
  for (const [name, value] of durations) {
    if (value !== 0n && value < shortestNs) {
      throw invalid(`${name} in Healthcheck cannot be less than 1ms`);
    }
  }
  if (check.retries < 0) {
    throw invalid("Retries in Healthcheck cannot be negative");
  }
}

/** Refuses an invalid host configuration. @throws invalid */
export function validateHostConfig(hostConfig: HostConfig): void {
  const restartPolicy = hostConfig.restartPolicy;
  if (hostConfig.autoRemove && !isNone(restartPolicy)) {
    throw invalid("can't create 'AutoRemove' container with restart policy");
  }
  for (const mount of hostConfig.mounts) {
    validateMount(mount);
  }
  for (const destination of Object.keys(hostConfig.tmpfs)) {
    validateTmpfsDestination(destination);
  }
  for (const host of hostConfig.extraHosts) {
    validateExtraHost(host);
  }
  validatePortBindings(hostConfig.portBindings);
  if (restartPolicy !== undefined) {
    validateRestartPolicy(restartPolicy);
  }
  if (!["", "default"].includes(hostConfig.isolation.toLowerCase())) {
    throw invalid(`invalid isolation (${hostConfig.isolation}): linux only supports 'default'`);
  }
  if (Object.hasOwn(hostConfig.annotations, "")) {
    throw invalid("invalid Annotations: the empty string is not permitted as an annotation key");
  }
  validateCapabilities(hostConfig);
  validateNamespaceModes(hostConfig);
  if (hostConfig.shmSize < 0n) {
    throw invalid("SHM size can not be less than 0");
  }
  if (hostConfig.oomScoreAdj < -1000 || hostConfig.oomScoreAdj > 1000) {
    throw invalid(`Invalid value ${hostConfig.oomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  }
}

function validateNamespaceModes({ ipcMode, pidMode, utsMode, cgroupnsMode }: HostConfig): void {
  if (!["", "none", "private", "host", "shareable"].includes(ipcMode) && !isContainerMode(ipcMode)) {
    throw invalid(`invalid IPC mode: ${ipcMode}`);
  }
  if (!["", "host"].includes(pidMode) && !containerOfMode(pidMode)) {
    throw invalid(`invalid PID mode: ${pidMode}`);
  }
  if (!["", "host"].includes(utsMode)) {
    throw invalid(`invalid UTS mode: ${utsMode}`);
  }
  if (!["", "private", "host"].includes(cgroupnsMode)) {
    throw invalid(`invalid cgroup namespace mode: ${cgroupnsMode}`);
  }
}

/** Refuses options that exclude each other. @throws invalid */
export function validateTogether(config: ContainerConfig, hostConfig: HostConfig): void {
  const mode = hostConfig.networkMode;
  if (mode === "container" || mode === "container:") {
    throw invalid("invalid network mode: invalid container format container:<name|id>");
  }
  if (isContainerMode(mode)) {
    refuseWithSharedNetwork(config, hostConfig);
  }
  if (hostConfig.utsMode === "host" && config.hostname !== "") {
    throw invalid("conflicting options: hostname and the UTS mode");
  }
  if (mode === "host" && hostConfig.links.length > 0) {
    throw invalid(
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
  }
}

function refuseWithSharedNetwork(config: ContainerConfig, hostConfig: HostConfig): void {
  const conflicts: readonly (readonly [boolean, string])[] = [
    [config.hostname !== "", "hostname and the network mode"],
    [
      hostConfig.links.length > 0,
      "container type network can't be used with links. This would result in undefined behavior",
    ],
    [hostConfig.dns.length > 0, "dns and the network mode"],
    [hostConfig.extraHosts.length > 0, "custom host-to-IP mapping and the network mode"],
    [config.macAddress !== "", "mac-address and the network mode"],
    [
      hostConfig.portBindings.length > 0 || hostConfig.publishAllPorts,
      "port publishing and the container type network mode",
    ],
    [config.exposedPorts.length > 0, "port exposing and the container type network mode"],
  ];
  for (const [conflicting, text] of conflicts) {
    if (conflicting) {
      throw invalid(`conflicting options: ${text}`);
    }
  }
}

function validateRestartPolicy(policy: RestartPolicy): void {
  switch (policy.name) {
    case "":
      return;
    case "no":
    case "always":
    case "unless-stopped":
      if (policy.maximumRetryCount !== 0) {
        throw invalid(
          "invalid restart policy: maximum retry count can only be used with 'on-failure'" +
            (policy.maximumRetryCount < 0 ? " and cannot be negative" : ""),
        );
      }
      return;
    case "on-failure":
      if (policy.maximumRetryCount < 0) {
        throw invalid("invalid restart policy: maximum retry count cannot be negative");
      }
      return;
    default:
      throw invalid(
        `invalid restart policy: unknown policy '${policy.name}'; ` +
          "use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
      );
  }
}

function isNone(policy: RestartPolicy | undefined): boolean {
  return policy === undefined || policy.name === "" || policy.name === "no";
}

function validateExtraHost(host: string): void {
  const { name, address } = parseExtraHost(host);
  if (name === "") {
    throw invalid(`bad format for add-host: ${JSON.stringify(host)}`);
  }
  if (address !== "host-gateway" && isIP(address) === 0) {
    throw invalid(`invalid IP address in add-host: ${JSON.stringify(address)}`);
  }
}

function validateTmpfsDestination(destination: string): void {
  if (path.normalize(destination) === "/") {
    throw invalid("invalid specification: destination can't be '/'");
  }
  if (!path.isAbsolute(destination)) {
    throw invalid(`invalid mount path: '${destination}' mount path must be absolute`);
  }
}
