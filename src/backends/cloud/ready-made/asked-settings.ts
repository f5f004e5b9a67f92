/** Settings that no cloud supports; each cloud's tables say why, and whether they are refused or ignored. */
import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { NetworkEndpoint } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import * as defaultPaths from "../../security/default-paths.ts";
import { isOfBuild } from "../../model/build-label.ts";
import { isContainerMode } from "../../model/container-mode.ts";
import { dockerSocketsOf, isWellKnownSocket } from "../../model/docker-socket.ts";
import { unpublishedPorts } from "../../model/ports.ts";
import { parseSecurityOptions } from "../../security/options.ts";
import type { SeccompProfile } from "../../security/seccomp.ts";
import type { State } from "../../state/state.ts";
import type { CloudSetting } from "./setting-rules.ts";
import { askedProfile, hasListener } from "../tasks/agent-seccomp.ts";

/** Neutral for a container that its platform confines anyway; `docker-default` only applies on hosts with AppArmor. */
const neutralSecurityOption =
  /^(no-new-privileges([=:].*)?|label([=:].*)|seccomp[=:]builtin|apparmor[=:](docker-default)?)$/;
/** Removes a confinement: such a container also works within the platform's. */
const unconfinedOption = /^(seccomp|apparmor)[=:]unconfined$/;
const seccompOption = /^seccomp[=:]/;
const openPathsOption = "systempaths=unconfined";

/** A row of clouds' tables, but for the cloud's reason. */
type AskedSetting = Omit<CloudSetting, "why">;

/** Whether a container is a build step. */
export function isStep({ config }: ContainerRecord): boolean {
  return isOfBuild(config?.labels ?? {});
}

export const hostNetworkOfStep: AskedSetting = {
  name: "RUN --network=host",
  isSet: (host, record) => host.networkMode === "host" && isStep(record),
};

/** A cache that begins with files, or with an owner or a mode. */
export const filledCacheOfStep: AskedSetting = {
  name: "RUN --mount=type=cache with uid, gid, mode or from",
  isSet: ({ mounts }, record) =>
    isStep(record) && mounts.some(({ type, volumeOptions }) => type === "volume" && !volumeOptions?.noCopy),
};

export const hostNetwork: AskedSetting = {
  name: "--network host",
  isSet: ({ networkMode }) => networkMode === "host",
};

export const cgroupParent: AskedSetting = {
  name: "--cgroup-parent",
  isSet: ({ resources }) => (resources?.cgroupParent ?? "") !== "",
};

/** Host paths other than a Docker socket. */
export const otherHostPaths: AskedSetting = {
  name: "host paths in --volume and --mount",
  isSet: (_host, { mounts }) =>
    mounts.some(({ type, source }) => type === "bind" && !isWellKnownSocket(source)),
};

/** `--volume` and `--mount` of a Docker socket. */
function dockerSocket(_host: HostConfig, record: ContainerRecord): boolean {
  return dockerSocketsOf(record).length > 0;
}

/**
 * The row of a cloud that supports Docker sockets in containers, if its configuration disables them.
 *
 * @param section its settings'
 */
export const innerSocketOff = (section: string): CloudSetting => ({
  name: `host paths in --volume and --mount: /var/run/docker.sock (${section}.inner_socket: off)`,
  why: `who has a Docker socket starts containers at your cost. With \`${section}.inner_socket: own\` a container gets one that shows and changes only what was made through it, with \`full\` one without such limits`,
  isSet: dockerSocket,
});

/** The row of a cloud where a task reaches the world whatever its container's networks. */
export const internalNetworks = ({ networks }: Pick<State, "networks">, why: string): CloudSetting => ({
  name: "docker network create --internal",
  why,
  isSet: (_host, { endpoints }) =>
    Object.keys(endpoints).some((name) => networks.named(name)?.network?.internal === true),
});

export const unforwardedPorts: CloudSetting = {
  name: "--publish and --publish-all of SCTP ports",
  why: "connections to containers are forwarded by TCP and UDP",
  isSet: (_host, record) => {
    const { named, exposed } = unpublishedPorts(record);
    return named.length + exposed.length > 0;
  },
};

export const realtime: AskedSetting = {
  name: "--cpu-rt-period, --cpu-rt-runtime",
  isSet: ({ resources }) =>
    (resources?.cpuRealtimePeriod ?? 0n) > 0n || (resources?.cpuRealtimeRuntime ?? 0n) > 0n,
};

/** Other than the default. */
export const memorySwap: AskedSetting = {
  name: "--memory-swap",
  isSet: ({ resources }) =>
    resources !== undefined &&
    resources.memorySwap !== 0n &&
    resources.memorySwap !== resources.memory &&
    resources.memorySwap !== resources.memory * 2n,
};

export const hostCgroupNamespace: AskedSetting = {
  name: "--cgroupns host",
  isSet: ({ cgroupnsMode }) => cgroupnsMode === "host",
};

/** `--mac-address` */
export function macAddress(_host: HostConfig, record: ContainerRecord): boolean {
  return hasEndpoint(record, ({ config }) => (config?.macAddress ?? "") !== "");
}

/** `--link-local-ip` */
export function linkLocalIps(_host: HostConfig, record: ContainerRecord): boolean {
  return hasEndpoint(record, ({ config }) => (config?.linkLocalIps.length ?? 0) > 0);
}

/** Options of endpoints: `com.docker.network.endpoint.…`. */
export function endpointOptions(_host: HostConfig, record: ContainerRecord): boolean {
  return hasEndpoint(record, ({ config }) =>
    Object.keys(config?.driverOpts ?? {}).some((key) => key.startsWith("com.docker.network.endpoint.")),
  );
}

function hasEndpoint(
  { endpoints }: ContainerRecord,
  isSuch: (endpoint: NetworkEndpoint) => boolean,
): boolean {
  return Object.values(endpoints).some(isSuch);
}

export const storageOptions: AskedSetting = {
  name: "--storage-opt (all but size)",
  isSet: ({ storageOpt }) => Object.keys(storageOpt).some((name) => name !== "size"),
};

/** `--security-opt seccomp=unconfined, apparmor=unconfined` */
export function unconfined({ securityOpt }: HostConfig): boolean {
  return securityOpt.some((option) => unconfinedOption.test(option));
}

/** `--security-opt systempaths=unconfined` by name or, as Docker's clients send it, by empty lists of paths. */
export function openPaths({ securityOpt, maskedPaths, readonlyPaths }: HostConfig): boolean {
  return (
    securityOpt.includes(openPathsOption) ||
    [maskedPaths, readonlyPaths].some((paths) => paths?.values.length === 0)
  );
}

/** Paths that differ from Docker's, in any order. Empty ones are {@link openPaths}. */
export const ownPaths: AskedSetting = {
  name: "MaskedPaths and ReadonlyPaths of the user's own",
  isSet: ({ maskedPaths, readonlyPaths }) => {
    const areOwn = (paths: readonly string[] | undefined, dockers: readonly string[]): boolean =>
      paths !== undefined &&
      paths.length > 0 &&
      new Set(paths).symmetricDifference(new Set(dockers)).size > 0;
    return (
      areOwn(maskedPaths?.values, defaultPaths.maskedPaths) ||
      areOwn(readonlyPaths?.values, defaultPaths.readonlyPaths)
    );
  },
};

/** A profile that agents cannot load. @throws SockerlessError `invalid`: malformed profile */
export const profileWithPrivileges: AskedSetting = {
  name: "--security-opt seccomp=PROFILE (without no-new-privileges)",
  isSet: (host) => profileOf(host) !== undefined && !parseSecurityOptions(readable(host)).noNewPrivileges,
};

/** A profile with a listener. @throws SockerlessError `invalid`: malformed profile */
export const profileWithListener: AskedSetting = {
  name: "--security-opt seccomp=PROFILE (SCMP_ACT_NOTIFY, listenerPath)",
  isSet: (host) => {
    const profile = profileOf(host);
    return profile !== undefined && hasListener(profile);
  },
};

/** Options of `--security-opt` that are neither neutral, nor about seccomp, nor remove a confinement. */
export function otherSecurityOptions({ securityOpt }: HostConfig): readonly string[] {
  return securityOpt.filter(
    (option) =>
      !neutralSecurityOption.test(option) &&
      !unconfinedOption.test(option) &&
      !seccompOption.test(option) &&
      option !== openPathsOption,
  );
}

export const ownNamespaces: AskedSetting = {
  name: "--pid, --ipc (host and container:NAME)",
  isSet: ({ pidMode, ipcMode }) =>
    [pidMode, ipcMode].some((mode) => mode === "host" || isContainerMode(mode)),
};

export const containerNetwork: AskedSetting = {
  name: "--network container:NAME",
  isSet: (host) => isContainerMode(host.networkMode),
};

export const noNetwork: AskedSetting = {
  name: "--network none",
  isSet: (host) => host.networkMode === "none",
};

export const endpointSettings: AskedSetting = {
  name: "--mac-address, --link-local-ip, options of endpoints (com.docker.network.endpoint.…)",
  isSet: (host, record) =>
    [macAddress, linkLocalIps, endpointOptions].some((isAsked) => isAsked(host, record)),
};

export const noConfinement: AskedSetting = {
  name: "--security-opt seccomp=unconfined, apparmor=unconfined, systempaths=unconfined",
  isSet: (host) => unconfined(host) || openPaths(host),
};

export const unknownSecurityOptions: AskedSetting = {
  name: "--security-opt (others)",
  isSet: (host) => otherSecurityOptions(host).length > 0,
};

/** Options that are not refused by their kind. */
function readable(host: HostConfig): readonly string[] {
  const others = new Set(otherSecurityOptions(host));
  return host.securityOpt.filter((option) => !others.has(option));
}

function profileOf(host: HostConfig): SeccompProfile | undefined {
  return askedProfile({ securityOpt: [...readable(host)] });
}
