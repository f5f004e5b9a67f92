/**
 * Docker's settings that Fargate cannot honour: those that are refused with 501, and those that are accepted and not
 * applied, with a warning. `docs/backends/ecs-settings.md` is made from these tables.
 */
import type { HostConfig, Mount } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { askedProfile, hasListener } from "../common/cloud/agent-seccomp.ts";
import * as defaultPaths from "../common/default-paths.ts";
import type { UnappliedSetting } from "../common/driver.ts";
import { isOfBuild } from "../common/model/build-label.ts";
import { isContainerMode } from "../common/model/container-mode.ts";
import { unpublishedPorts } from "../common/model/ports.ts";
import { defaultCapabilities } from "../common/linux-capabilities.ts";
import { parseSecurityOptions } from "../common/security/options.ts";
import type { SeccompProfile } from "../common/security/seccomp.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** One setting. */
export interface FargateSetting extends UnappliedSetting {
  /** Whether a container has it at other than its neutral value. */
  readonly isSet: (hostConfig: HostConfig, record: ContainerRecord) => boolean;
}

/** Fargate gives Docker's default ones, so that a container which drops all may have these back. */
const addable: ReadonlySet<string> = new Set([...defaultCapabilities, "CAP_SYS_PTRACE"]);

/** Neutral for a container whose platform confines it anyway; `docker-default` holds only where a host has AppArmor. */
const neutralSecurityOption =
  /^(no-new-privileges([=:].*)?|label([=:].*)|seccomp[=:]builtin|apparmor[=:](docker-default)?)$/;
/** Takes a confinement away: a container that asks for it works within the platform's, too. */
const unconfined = /^(seccomp|apparmor)[=:]unconfined$/;
const seccompOption = /^seccomp[=:]/;
const apparmorOption = /^apparmor[=:]/;
const openPaths = "systempaths=unconfined";

/** Refused: the container would be another one than was asked for. */
export const refused: readonly FargateSetting[] = [
  { name: "--privileged", why: "Fargate has no privileged containers", isSet: (host) => host.privileged },
  {
    name: "--device",
    why: "Fargate gives no devices of the host",
    isSet: ({ resources }) => (resources?.devices.length ?? 0) > 0,
  },
  {
    name: "--device-cgroup-rule",
    why: "Fargate gives no devices of the host",
    isSet: ({ resources }) => (resources?.deviceCgroupRules.length ?? 0) > 0,
  },
  {
    name: "--gpus",
    why: "Fargate has no GPUs",
    isSet: ({ resources }) => (resources?.deviceRequests.length ?? 0) > 0,
  },
  {
    name: "--cap-add (all but SYS_PTRACE and those that Docker gives by default)",
    why: "Fargate adds no capability but SYS_PTRACE",
    isSet: (host) => host.capAdd.some((name) => !addable.has(name)),
  },
  {
    name: "--pid",
    why: "a task has process IDs of its own",
    isSet: (host) => host.pidMode === "host" || isContainerMode(host.pidMode),
  },
  {
    name: "--ipc",
    why: "a task has an IPC namespace of its own",
    isSet: (host) => host.ipcMode === "host" || isContainerMode(host.ipcMode),
  },
  {
    name: "--cgroup-parent",
    why: "the host's control groups are Fargate's",
    isSet: ({ resources }) => (resources?.cgroupParent ?? "") !== "",
  },
  {
    name: "RUN --network=host",
    why: "a task has a network interface of its own; `docker run --network host` is accepted and not applied",
    isSet: (host, record) => host.networkMode === "host" && isStep(record),
  },
  {
    name: "RUN --mount=type=cache with uid, gid, mode or from",
    why: "a volume of EFS begins empty, and everybody who mounts it is root there",
    isSet: (host, record) =>
      isStep(record) && volumesOf(host).some(({ volumeOptions }) => !volumeOptions?.noCopy),
  },
  {
    name: "RUN --mount=type=ssh",
    why: "the client's agent is a socket of the builder's machine, which a task does not reach",
    isSet: (host, record) => isStep(record) && host.mounts.some(({ type }) => type === "bind"),
  },
  {
    name: "RUN --mount=type=bind,rw",
    why: "a task has what it mounts of images for reading alone",
    isSet: (host, record) =>
      isStep(record) && host.mounts.some(({ type, readOnly }) => type === "image" && !readOnly),
  },
  {
    name: "--security-opt seccomp=PROFILE (without no-new-privileges)",
    why: "a task definition for Fargate takes no `dockerSecurityOptions`, and a process may load a filter itself only with CAP_SYS_ADMIN, which Fargate gives no container, or with no-new-privileges (seccomp(2)). With `--security-opt no-new-privileges` the agent loads the profile; without a profile Fargate's own holds",
    isSet: (host) => profileOf(host) !== undefined && !parseSecurityOptions(readable(host)).noNewPrivileges,
  },
  {
    name: "--security-opt seccomp=PROFILE (SCMP_ACT_NOTIFY, listenerPath)",
    why: "who listens would be a process of the host, which is Fargate's",
    isSet(host) {
      const profile = profileOf(host);
      return profile !== undefined && hasListener(profile);
    },
  },
  {
    name: "--security-opt apparmor=PROFILE (all but docker-default)",
    why: "a task definition for Fargate takes no `dockerSecurityOptions`, and profiles are loaded into the kernel of a host that is Fargate's",
    isSet: (host) => refusedSecurityOptions(host).some((option) => apparmorOption.test(option)),
  },
  {
    name: "--security-opt (others)",
    why: "a task definition for Fargate takes no `dockerSecurityOptions`",
    isSet: (host) =>
      refusedSecurityOptions(host).some(
        (option) => !seccompOption.test(option) && !apparmorOption.test(option),
      ),
  },
];

/**
 * Not applied where there is no file system: containers have directories of their own for volumes. Users are told of that in
 * the log when a volume is made; whoever builds sees no log.
 */
export const unsharedCaches: FargateSetting = {
  name: "RUN --mount=type=cache (without ecs.efs_filesystem_id)",
  why: "the cache is a directory of the task, and empty when a task begins",
  isSet: (host, record) => isStep(record) && volumesOf(host).length > 0,
};

function volumesOf({ mounts }: HostConfig): readonly Mount[] {
  return mounts.filter(({ type }) => type === "volume");
}

/** Whether a container is a step of a build. */
function isStep({ config }: ContainerRecord): boolean {
  return isOfBuild(config?.labels ?? {});
}

function refusedSecurityOptions({ securityOpt }: HostConfig): readonly string[] {
  return securityOpt.filter(
    (option) => !neutralSecurityOption.test(option) && !unconfined.test(option) && option !== openPaths,
  );
}

/** Options that are not refused for what they are. */
function readable(host: HostConfig): readonly string[] {
  const others = new Set(refusedSecurityOptions(host).filter((option) => !seccompOption.test(option)));
  return host.securityOpt.filter((option) => !others.has(option));
}

/** @throws SockerlessError `invalid`: it is none */
const profileOf = (host: HostConfig): SeccompProfile | undefined =>
  askedProfile({ securityOpt: [...readable(host)] });

/** Accepted and not applied: the container works without it. */
export const notApplied: readonly FargateSetting[] = [
  {
    name: "host paths in --volume and --mount",
    why: "a task has no host; the path is what the image has there",
    isSet: (_host, record) => record.mounts.some(({ type }) => type === "bind"),
  },
  {
    name: "--publish and --publish-all of SCTP ports",
    why: "connections to containers are forwarded by TCP and UDP",
    isSet: (_host, record) => {
      const { named, exposed } = unpublishedPorts(record);
      return named.length + exposed.length > 0;
    },
  },
  {
    name: "--ipc none",
    why: "every task has a /dev/shm",
    isSet: (host) => host.ipcMode === "none",
  },
  {
    name: "--cpu-rt-period, --cpu-rt-runtime",
    why: "Fargate schedules",
    isSet: ({ resources }) =>
      (resources?.cpuRealtimePeriod ?? 0n) > 0n || (resources?.cpuRealtimeRuntime ?? 0n) > 0n,
  },
  {
    name: "--memory-swap",
    why: "Fargate does not swap",
    isSet: ({ resources }) =>
      resources !== undefined &&
      resources.memorySwap !== 0n &&
      resources.memorySwap !== resources.memory &&
      resources.memorySwap !== resources.memory * 2n,
  },
  { name: "--oom-score-adj", why: "a task has no neighbours", isSet: (host) => host.oomScoreAdj !== 0 },
  { name: "--uts host", why: "a task has no host", isSet: (host) => host.utsMode === "host" },
  {
    name: "--cgroupns host",
    why: "the host's control groups are Fargate's",
    isSet: (host) => host.cgroupnsMode === "host",
  },
  {
    name: "--mac-address",
    why: "the interface has the one that AWS gives it; inspect shows the asked one before the first start alone",
    isSet: (_host, { endpoints }) =>
      Object.values(endpoints).some(({ config }) => (config?.macAddress ?? "") !== ""),
  },
  {
    name: "--link-local-ip",
    why: "the interface has the addresses that AWS gives it",
    isSet: (_host, { endpoints }) =>
      Object.values(endpoints).some(({ config }) => (config?.linkLocalIps.length ?? 0) > 0),
  },
  {
    name: "options of endpoints (com.docker.network.endpoint.…)",
    why: "the interface is the one that AWS gives a task",
    isSet: (_host, { endpoints }) =>
      Object.values(endpoints).some(({ config }) =>
        Object.keys(config?.driverOpts ?? {}).some((key) => key.startsWith("com.docker.network.endpoint.")),
      ),
  },
  {
    name: "--security-opt seccomp=unconfined, apparmor=unconfined",
    why: "Fargate confines every container",
    isSet: (host) => host.securityOpt.some((option) => unconfined.test(option)),
  },
  {
    name: "--security-opt systempaths=unconfined",
    why: "Fargate masks paths of /proc and /sys in every container",
    // Its clients say it with empty lists.
    isSet: ({ maskedPaths, readonlyPaths, securityOpt }) =>
      securityOpt.includes(openPaths) ||
      [maskedPaths, readonlyPaths].some((paths) => paths?.values.length === 0),
  },
  {
    name: "MaskedPaths and ReadonlyPaths of the user's own",
    why: "Fargate masks paths of its own choice",
    isSet: ({ maskedPaths, readonlyPaths }) =>
      areOwn(maskedPaths?.values, defaultPaths.maskedPaths) ||
      areOwn(readonlyPaths?.values, defaultPaths.readonlyPaths),
  },
  { name: "--userns", why: "Fargate maps users", isSet: (host) => host.usernsMode !== "" },
  {
    name: "--network host",
    why: "a task has a network interface of its own, on the default network",
    isSet: (host) => host.networkMode === "host",
  },
  {
    name: "--runtime",
    why: "Fargate has one runtime",
    isSet: (host) => !["", "fargate"].includes(host.runtime),
  },
  {
    name: "--storage-opt (all but size)",
    why: "Fargate has one kind of disk",
    isSet: (host) => Object.keys(host.storageOpt).some((name) => name !== "size"),
  },
];

/** Whether they differ from Docker's, in whatever order. None at all is another setting: everything is open. */
function areOwn(paths: readonly string[] | undefined, dockers: readonly string[]): boolean {
  return (
    paths !== undefined && paths.length > 0 && new Set(paths).symmetricDifference(new Set(dockers)).size > 0
  );
}

/** Those of a table that a container has. */
export function settingsOf(
  table: readonly FargateSetting[],
  record: ContainerRecord,
): readonly FargateSetting[] {
  const host = record.hostConfig;
  return host === undefined ? [] : table.filter(({ isSet }) => isSet(host, record));
}
