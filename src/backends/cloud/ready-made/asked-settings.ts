/** Predicates for settings that no cloud supports; each cloud's tables decide whether to refuse or ignore them. */
import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { NetworkEndpoint } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import * as defaultPaths from "../../security/default-paths.ts";
import { isOfBuild } from "../../model/build-label.ts";
import { dockerSocketsOf, isWellKnownSocket } from "../../model/docker-socket.ts";
import { unpublishedPorts } from "../../model/ports.ts";
import { parseSecurityOptions } from "../../security/options.ts";
import type { SeccompProfile } from "../../security/seccomp.ts";
import type { CloudSetting } from "./setting-rules.ts";
import { askedProfile, hasListener } from "../tasks/agent-seccomp.ts";

/** Neutral for a container that its platform confines anyway; `docker-default` only applies on hosts with AppArmor. */
const neutralSecurityOption =
  /^(no-new-privileges([=:].*)?|label([=:].*)|seccomp[=:]builtin|apparmor[=:](docker-default)?)$/;
/** Removes a confinement: such a container also works within the platform's. */
const unconfinedOption = /^(seccomp|apparmor)[=:]unconfined$/;
const seccompOption = /^seccomp[=:]/;
const openPathsOption = "systempaths=unconfined";

/** Whether a container is a build step. */
export function isStep({ config }: ContainerRecord): boolean {
  return isOfBuild(config?.labels ?? {});
}

/** `RUN --network=host` */
export function hostNetworkOfStep(host: HostConfig, record: ContainerRecord): boolean {
  return hostNetwork(host) && isStep(record);
}

/** `RUN --mount=type=cache` of a cache that begins with files, or with an owner or a mode. */
export function filledCacheOfStep({ mounts }: HostConfig, record: ContainerRecord): boolean {
  return (
    isStep(record) && mounts.some(({ type, volumeOptions }) => type === "volume" && !volumeOptions?.noCopy)
  );
}

/** `--network host` */
export function hostNetwork({ networkMode }: HostConfig): boolean {
  return networkMode === "host";
}

/** `--cgroup-parent` */
export function cgroupParent({ resources }: HostConfig): boolean {
  return (resources?.cgroupParent ?? "") !== "";
}

/** `--volume` and `--mount` of host paths other than a Docker socket. */
export function otherHostPaths(_host: HostConfig, { mounts }: ContainerRecord): boolean {
  return mounts.some(({ type, source }) => type === "bind" && !isWellKnownSocket(source));
}

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

/** `--publish` and `--publish-all` of ports that cannot be forwarded. */
export function unforwardedPorts(_host: HostConfig, record: ContainerRecord): boolean {
  const { named, exposed } = unpublishedPorts(record);
  return named.length + exposed.length > 0;
}

/** `--cpu-rt-period`, `--cpu-rt-runtime` */
export function realtime({ resources }: HostConfig): boolean {
  return (resources?.cpuRealtimePeriod ?? 0n) > 0n || (resources?.cpuRealtimeRuntime ?? 0n) > 0n;
}

/** `--memory-swap` other than the default. */
export function memorySwap({ resources }: HostConfig): boolean {
  return (
    resources !== undefined &&
    resources.memorySwap !== 0n &&
    resources.memorySwap !== resources.memory &&
    resources.memorySwap !== resources.memory * 2n
  );
}

/** `--cgroupns host` */
export function hostCgroupNamespace({ cgroupnsMode }: HostConfig): boolean {
  return cgroupnsMode === "host";
}

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

/** `--storage-opt`, except the size. */
export function storageOptions({ storageOpt }: HostConfig): boolean {
  return Object.keys(storageOpt).some((name) => name !== "size");
}

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

/** MaskedPaths or ReadonlyPaths that differ from Docker's, in any order. Empty ones are {@link openPaths}. */
export function ownPaths({ maskedPaths, readonlyPaths }: HostConfig): boolean {
  const areOwn = (paths: readonly string[] | undefined, dockers: readonly string[]): boolean =>
    paths !== undefined && paths.length > 0 && new Set(paths).symmetricDifference(new Set(dockers)).size > 0;
  return (
    areOwn(maskedPaths?.values, defaultPaths.maskedPaths) ||
    areOwn(readonlyPaths?.values, defaultPaths.readonlyPaths)
  );
}

/** `--security-opt seccomp=PROFILE` that agents cannot load. @throws SockerlessError `invalid`: malformed profile */
export function profileWithPrivileges(host: HostConfig): boolean {
  return profileOf(host) !== undefined && !parseSecurityOptions(readable(host)).noNewPrivileges;
}

/** `--security-opt seccomp=PROFILE` with a listener. @throws SockerlessError `invalid`: malformed profile */
export function profileWithListener(host: HostConfig): boolean {
  const profile = profileOf(host);
  return profile !== undefined && hasListener(profile);
}

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

/** Options that are not refused by their kind. */
function readable(host: HostConfig): readonly string[] {
  const others = new Set(otherSecurityOptions(host));
  return host.securityOpt.filter((option) => !others.has(option));
}

function profileOf(host: HostConfig): SeccompProfile | undefined {
  return askedProfile({ securityOpt: [...readable(host)] });
}
