/**
 * Docker's settings that pods cannot honour, or that are not built yet: those that are refused with 501, and those that are
 * accepted and not applied, with a warning. `docs/backends/kubernetes.md` has the same tables.
 */
import * as asks from "../cloud/ready-made/asked-settings.ts";
import { type CloudSetting, settingRules } from "../cloud/ready-made/setting-rules.ts";
import type { SettingRules } from "../driver/settings.ts";
import { askedGpus } from "./pods/sizes.ts";

/** Refused: the container would be another one than was asked for. */
const refused: readonly CloudSetting[] = [
  {
    name: "--device, --device-cgroup-rule",
    why: "a pod has devices by resources of its node, as `--gpus 1`, or all of them with `--privileged`",
    isSet: ({ resources }) =>
      [resources?.devices, resources?.deviceCgroupRules].some((each) => (each?.length ?? 0) > 0),
  },
  {
    name: "--gpus (all, devices, drivers and options)",
    why: "a pod asks for a number of GPUs: `--gpus 1`",
    isSet: ({ resources }) => askedGpus(resources ?? {}) === undefined,
  },
  { ...asks.ownNamespaces, why: "a pod has namespaces of its own, and cannot join another's" },
  { ...asks.containerNetwork, why: "one pod cannot join another's network" },
  { ...asks.noNetwork, why: "every pod has a network" },
  { ...asks.cgroupParent, why: "the nodes' control groups are the kubelet's" },
  {
    ...asks.hostNetworkOfStep,
    why: "a pod has a network of its own; `docker run --network host` is accepted and not applied",
  },
  { ...asks.filledCacheOfStep, why: "a claim begins empty, and its directory is the storage class's" },
  {
    ...asks.profileWithPrivileges,
    why: "profiles of pods are files of the nodes, and a process may load a filter itself only with CAP_SYS_ADMIN or with no-new-privileges (seccomp(2)): with `--security-opt no-new-privileges` the agent loads it",
  },
  { ...asks.profileWithListener, why: "who listens would be a process of the node" },
  { ...asks.unknownSecurityOptions, why: "not built yet" },
];

/** Accepted and not applied: the container works without it. */
const notApplied: readonly CloudSetting[] = [
  { ...asks.otherHostPaths, why: "a pod is on any node; the path is what the image has there" },
  {
    name: "options of --tmpfs (all but size)",
    why: "memory that a pod mounts is for everybody to write to, and has no options",
    isSet: ({ tmpfs, mounts }) =>
      Object.values(tmpfs).some((options) => /(^|,)(?!size=|$)/.test(options)) ||
      mounts.some(({ tmpfsOptions }) => (tmpfsOptions?.mode ?? 0) !== 0),
  },
  asks.unforwardedPorts,
  { name: "--ipc none", why: "every pod has a /dev/shm", isSet: (host) => host.ipcMode === "none" },
  { ...asks.realtime, why: "the kubelet has no setting for it" },
  { ...asks.memorySwap, why: "swap is the node's matter" },
  {
    name: "--oom-score-adj",
    why: "the kubelet sets it by what is reserved for a pod",
    isSet: (host) => host.oomScoreAdj !== 0,
  },
  { name: "--uts host", why: "a pod has a name of its own", isSet: (host) => host.utsMode === "host" },
  { ...asks.hostCgroupNamespace, why: "the nodes' control groups are the kubelet's" },
  { ...asks.endpointSettings, why: "the interface is the one that the cluster gives a pod" },
  { ...asks.noConfinement, why: "the namespace's own rules hold" },
  { ...asks.ownPaths, why: "the container runtime masks paths of its own choice" },
  { name: "--userns", why: "the node maps users", isSet: (host) => host.usernsMode !== "" },
  { ...asks.hostNetwork, why: "a pod has a network of its own, on the default network" },
  {
    name: "--runtime",
    why: "the runtime class is a setting of the backend (kubernetes.runtime_class)",
    isSet: (host) => !["", "kubernetes"].includes(host.runtime),
  },
  { ...asks.storageOptions, why: "pods have one kind of disk" },
];

/** The rules for settings of pods. @param more settings that are not applied, which other parts of the backend know */
export function kubernetesSettings(more: readonly CloudSetting[], architecture: string): SettingRules {
  return settingRules({ refused, notApplied: [...notApplied, ...more], architecture });
}
