/**
 * Docker's settings that Container Apps does not support: refused with 501, or accepted with a warning but not applied.
 * `docs/backends/aca.md` has the same tables.
 */
import * as asks from "../cloud/ready-made/asked-settings.ts";
import { type CloudSetting, settingRules } from "../cloud/ready-made/setting-rules.ts";
import type { SettingRules } from "../driver/settings.ts";
import { askedCapabilities, defaultCapabilities } from "../security/linux-capabilities.ts";
import { type DefaultSize, sizeNotice } from "./jobs/sizes.ts";

/** Capabilities that a container that drops all may add again. */
const addable: ReadonlySet<string> = new Set(defaultCapabilities);

/** Docker's default size of /dev/shm, bytes. */
const defaultSharedMemory = 64n * 1024n ** 2n;

/** Refused, as the container would differ from the request. */
const refused: readonly CloudSetting[] = [
  { name: "--privileged", why: "jobs are not privileged", isSet: (host) => host.privileged },
  {
    name: "--device, --device-cgroup-rule, --gpus",
    why: "a job gets no devices of its host",
    isSet: ({ resources }) =>
      [resources?.devices, resources?.deviceCgroupRules, resources?.deviceRequests].some(
        (each) => (each?.length ?? 0) > 0,
      ),
  },
  {
    name: "--cap-add (all but those that Docker gives by default)",
    why: "jobs have no setting for capabilities",
    isSet: (host) => askedCapabilities(host).added.some((name) => !addable.has(name)),
  },
  { ...asks.ownNamespaces, why: "a job has namespaces of its own" },
  { ...asks.containerNetwork, why: "jobs do not reach one another, and share no network" },
  { ...asks.noNetwork, why: "a job's agent has to call, by the network that its container has" },
  { ...asks.cgroupParent, why: "the host's control groups are Azure's" },
  {
    name: "--sysctl",
    why: "jobs have no setting for sysctls",
    isSet: (host) => Object.keys(host.sysctls).length > 0,
  },
  {
    ...asks.hostNetworkOfStep,
    why: "a job has a network of its own; `docker run --network host` is accepted and not applied",
  },
  { ...asks.filledCacheOfStep, why: "a share begins empty, and its files belong to whoever mounts it" },
  {
    ...asks.profileWithPrivileges,
    why: "jobs have no setting for profiles, and a process may load a filter itself only with CAP_SYS_ADMIN or with no-new-privileges (seccomp(2)): with `--security-opt no-new-privileges` the agent loads it",
  },
  { ...asks.profileWithListener, why: "who listens would be a process of the host, which is Azure's" },
  { ...asks.unknownSecurityOptions, why: "jobs have no setting for it" },
];

/** Accepted but not applied, as the container works without it. */
const notApplied: readonly CloudSetting[] = [
  { ...asks.otherHostPaths, why: "a job has no host; the path is what the image has there" },
  {
    name: "--read-only",
    why: "jobs have no setting for it: the root file system can be written",
    isSet: (host) => host.readonlyRootfs,
  },
  {
    name: "--mount type=image (read-only)",
    why: "jobs have no setting for it: the container has a copy of the image's files, which it can write to",
    isSet: (host, record) => !asks.isStep(record) && host.mounts.some(({ type }) => type === "image"),
  },
  {
    name: "--tmpfs",
    why: "jobs mount no memory: the path is on the job's disk, and empty at each start",
    isSet: (host, { mounts }) =>
      Object.keys(host.tmpfs).length > 0 || mounts.some(({ type }) => type === "tmpfs"),
  },
  {
    name: "--shm-size",
    why: "a job's /dev/shm is as Azure makes it",
    isSet: ({ shmSize }) => shmSize !== 0n && shmSize !== defaultSharedMemory,
  },
  asks.unforwardedPorts,
  { name: "--ipc none", why: "every job has a /dev/shm", isSet: (host) => host.ipcMode === "none" },
  { ...asks.realtime, why: "Azure schedules" },
  { ...asks.memorySwap, why: "jobs do not swap" },
  { name: "--oom-score-adj", why: "a job has no neighbours", isSet: (host) => host.oomScoreAdj !== 0 },
  { name: "--uts host", why: "a job has no host", isSet: (host) => host.utsMode === "host" },
  { ...asks.hostCgroupNamespace, why: "the host's control groups are Azure's" },
  { ...asks.endpointSettings, why: "the interface is the one that Azure gives a job" },
  { ...asks.noConfinement, why: "Azure confines every container" },
  { ...asks.ownPaths, why: "Azure masks paths of its own choice" },
  { name: "--userns", why: "Azure maps users", isSet: (host) => host.usernsMode !== "" },
  { ...asks.hostNetwork, why: "a job has a network of its own, on the default network" },
  {
    name: "--runtime",
    why: "Container Apps has one runtime",
    isSet: (host) => !["", "container-apps"].includes(host.runtime),
  },
  { ...asks.storageOptions, why: "jobs have one kind of disk" },
];

/**
 * Creates the rules for settings of jobs.
 *
 * @param more further settings that are not applied, from other parts of the backend
 * @param defaultSize the default size of containers
 */
export function acaSettings(more: readonly CloudSetting[], defaultSize: DefaultSize): SettingRules {
  const rules = settingRules({ refused, notApplied: [...notApplied, ...more], architecture: "amd64" });
  return {
    ...rules,
    notApplied(record) {
      const size = sizeNotice(record.hostConfig, defaultSize);
      return [...rules.notApplied(record), ...(size === undefined ? [] : [size])];
    },
  };
}
