/**
 * Docker's settings that Fargate does not support: those refused with 501, and those accepted but not applied, with a
 * warning. `docs/backends/ecs-settings.md` is generated from these tables.
 */
import * as asks from "../cloud/ready-made/asked-settings.ts";
import type { CloudSetting } from "../cloud/ready-made/setting-rules.ts";
import { isContainerMode } from "../model/container-mode.ts";
import { askedCapabilities, defaultCapabilities } from "../security/linux-capabilities.ts";

/** Containers that drop all may add these again: Fargate grants Docker's default ones. */
const addable: ReadonlySet<string> = new Set([...defaultCapabilities, "CAP_SYS_PTRACE"]);

const apparmorOption = /^apparmor[=:]/;

/** Refused, as the container would differ from the request. */
export const refused: readonly CloudSetting[] = [
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
    isSet: (host) => askedCapabilities(host).added.some((name) => !addable.has(name)),
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
  { ...asks.cgroupParent, why: "the host's control groups are Fargate's" },
  {
    ...asks.hostNetworkOfStep,
    why: "a task has a network interface of its own; `docker run --network host` is accepted and not applied",
  },
  {
    ...asks.filledCacheOfStep,
    why: "a volume of EFS begins empty, and everybody who mounts it is root there",
  },
  {
    ...asks.profileWithPrivileges,
    why: "a task definition for Fargate takes no `dockerSecurityOptions`, and a process may load a filter itself only with CAP_SYS_ADMIN, which Fargate gives no container, or with no-new-privileges (seccomp(2)). With `--security-opt no-new-privileges` the agent loads the profile; without a profile Fargate's own holds",
  },
  { ...asks.profileWithListener, why: "who listens would be a process of the host, which is Fargate's" },
  {
    name: "--security-opt apparmor=PROFILE (all but docker-default)",
    why: "a task definition for Fargate takes no `dockerSecurityOptions`, and profiles are loaded into the kernel of a host that is Fargate's",
    isSet: (host) => asks.otherSecurityOptions(host).some((option) => apparmorOption.test(option)),
  },
  {
    name: "--security-opt (others)",
    why: "a task definition for Fargate takes no `dockerSecurityOptions`",
    isSet: (host) => asks.otherSecurityOptions(host).some((option) => !apparmorOption.test(option)),
  },
];

/**
 * Not applied without a file system: each container has its own directory for a volume. Users get a warning in the log
 * when a volume is created; builds show no such log.
 */
export const unsharedCaches: CloudSetting = {
  name: "RUN --mount=type=cache (without ecs.efs_filesystem_id)",
  why: "the cache is a directory of the task, and empty when a task begins",
  isSet: (host, record) => asks.isStep(record) && host.mounts.some(({ type }) => type === "volume"),
};

/** Not applied if containers get no Docker socket. */
export const innerSocketOff: CloudSetting = asks.innerSocketOff("ecs");

/** Accepted but not applied, as the container works without it. */
export const notApplied: readonly CloudSetting[] = [
  { ...asks.otherHostPaths, why: "a task has no host; the path is what the image has there" },
  asks.unforwardedPorts,
  {
    name: "--ipc none",
    why: "every task has a /dev/shm",
    isSet: (host) => host.ipcMode === "none",
  },
  { ...asks.realtime, why: "Fargate schedules" },
  { ...asks.memorySwap, why: "Fargate does not swap" },
  { name: "--oom-score-adj", why: "a task has no neighbours", isSet: (host) => host.oomScoreAdj !== 0 },
  { name: "--uts host", why: "a task has no host", isSet: (host) => host.utsMode === "host" },
  { ...asks.hostCgroupNamespace, why: "the host's control groups are Fargate's" },
  {
    name: "--mac-address",
    why: "the interface has the one that AWS gives it; inspect shows the asked one before the first start alone",
    isSet: asks.macAddress,
  },
  {
    name: "--link-local-ip",
    why: "the interface has the addresses that AWS gives it",
    isSet: asks.linkLocalIps,
  },
  {
    name: "options of endpoints (com.docker.network.endpoint.…)",
    why: "the interface is the one that AWS gives a task",
    isSet: asks.endpointOptions,
  },
  {
    name: "--security-opt seccomp=unconfined, apparmor=unconfined",
    why: "Fargate confines every container",
    isSet: asks.unconfined,
  },
  {
    name: "--security-opt systempaths=unconfined",
    why: "Fargate masks paths of /proc and /sys in every container",
    isSet: asks.openPaths,
  },
  { ...asks.ownPaths, why: "Fargate masks paths of its own choice" },
  { name: "--userns", why: "Fargate maps users", isSet: (host) => host.usernsMode !== "" },
  { ...asks.hostNetwork, why: "a task has a network interface of its own, on the default network" },
  {
    name: "--runtime",
    why: "Fargate has one runtime",
    isSet: (host) => !["", "fargate"].includes(host.runtime),
  },
  { ...asks.storageOptions, why: "Fargate has one kind of disk" },
];
