/**
 * Docker's settings that Container Apps cannot honour: those that are refused with 501, and those that are accepted and
 * not applied, with a warning. `docs/backends/aca.md` has the same tables.
 */
import type { HostConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { agentSeccomp, askedProfile, hasListener } from "../common/cloud/agent-seccomp.ts";
import type { SettingRules, UnappliedSetting } from "../common/driver.ts";
import { defaultCapabilities } from "../common/linux-capabilities.ts";
import { isOfBuild } from "../common/model/build-label.ts";
import { isContainerMode } from "../common/model/container-mode.ts";
import { unpublishedPorts } from "../common/model/ports.ts";
import { parseSecurityOptions } from "../common/security/options.ts";
import type { SeccompProfile } from "../common/security/seccomp.ts";
import { type DefaultSize, toldSize } from "./jobs/sizes.ts";

/** One setting. */
export interface JobSetting extends UnappliedSetting {
  /** Whether a container has it at other than its neutral value. */
  readonly isSet: (hostConfig: HostConfig, record: ContainerRecord) => boolean;
}

/** A container that drops all may have these back. */
const addable: ReadonlySet<string> = new Set(defaultCapabilities);

/** Neutral for a container whose platform confines it anyway. */
const neutralSecurityOption =
  /^(no-new-privileges([=:].*)?|label([=:].*)|seccomp[=:]builtin|apparmor[=:](docker-default)?)$/;
/** Takes a confinement away: a container that asks for it works within the platform's, too. */
const unconfined = /^(seccomp|apparmor)[=:]unconfined$/;
const seccompOption = /^seccomp[=:]/;
const openPaths = "systempaths=unconfined";

/** Docker's default size of /dev/shm, bytes. */
const defaultSharedMemory = 64n * 1024n ** 2n;

/** Refused: the container would be another one than was asked for. */
export const refused: readonly JobSetting[] = [
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
    isSet: (host) => host.capAdd.some((name) => !addable.has(name)),
  },
  {
    name: "--pid, --ipc (host and container:NAME)",
    why: "a job has namespaces of its own",
    isSet: ({ pidMode, ipcMode }) =>
      [pidMode, ipcMode].some((mode) => mode === "host" || isContainerMode(mode)),
  },
  {
    name: "--network container:NAME",
    why: "jobs do not reach one another, and share no network",
    isSet: (host) => isContainerMode(host.networkMode),
  },
  {
    name: "--network none",
    why: "a job's agent has to call, by the network that its container has",
    isSet: (host) => host.networkMode === "none",
  },
  {
    name: "--cgroup-parent",
    why: "the host's control groups are Azure's",
    isSet: ({ resources }) => (resources?.cgroupParent ?? "") !== "",
  },
  {
    name: "--sysctl",
    why: "jobs have no setting for sysctls",
    isSet: (host) => Object.keys(host.sysctls).length > 0,
  },
  {
    name: "RUN --network=host",
    why: "a job has a network of its own; `docker run --network host` is accepted and not applied",
    isSet: (host, record) => host.networkMode === "host" && isStep(record),
  },
  {
    name: "RUN --mount=type=ssh",
    why: "the client's agent is a socket of the builder's machine, which a job does not reach",
    isSet: (host, record) => isStep(record) && host.mounts.some(({ type }) => type === "bind"),
  },
  {
    name: "--mount type=image",
    why: "a job mounts no images",
    isSet: (host) => host.mounts.some(({ type }) => type === "image"),
  },
  {
    name: "--security-opt seccomp=PROFILE (without no-new-privileges)",
    why: "jobs have no setting for profiles, and a process may load a filter itself only with CAP_SYS_ADMIN or with no-new-privileges (seccomp(2)): with `--security-opt no-new-privileges` the agent loads it",
    isSet: (host) => profileOf(host) !== undefined && !parseSecurityOptions(readable(host)).noNewPrivileges,
  },
  {
    name: "--security-opt seccomp=PROFILE (SCMP_ACT_NOTIFY, listenerPath)",
    why: "who listens would be a process of the host, which is Azure's",
    isSet(host) {
      const profile = profileOf(host);
      return profile !== undefined && hasListener(profile);
    },
  },
  {
    name: "--security-opt (others)",
    why: "jobs have no setting for it",
    isSet: (host) => refusedSecurityOptions(host).some((option) => !seccompOption.test(option)),
  },
];

/** Accepted and not applied: the container works without it. */
export const notApplied: readonly JobSetting[] = [
  {
    name: "host paths in --volume and --mount",
    why: "a job has no host; the path is what the image has there",
    isSet: (_host, record) => record.mounts.some(({ type }) => type === "bind"),
  },
  {
    name: "--read-only",
    why: "jobs have no setting for it: the root file system can be written",
    isSet: (host) => host.readonlyRootfs,
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
  {
    name: "--publish and --publish-all of SCTP ports",
    why: "connections to containers are forwarded by TCP and UDP",
    isSet(_host, record) {
      const { named, exposed } = unpublishedPorts(record);
      return named.length + exposed.length > 0;
    },
  },
  { name: "--ipc none", why: "every job has a /dev/shm", isSet: (host) => host.ipcMode === "none" },
  {
    name: "--cpu-rt-period, --cpu-rt-runtime",
    why: "Azure schedules",
    isSet: ({ resources }) =>
      (resources?.cpuRealtimePeriod ?? 0n) > 0n || (resources?.cpuRealtimeRuntime ?? 0n) > 0n,
  },
  {
    name: "--memory-swap",
    why: "jobs do not swap",
    isSet: ({ resources }) =>
      resources !== undefined &&
      resources.memorySwap !== 0n &&
      resources.memorySwap !== resources.memory &&
      resources.memorySwap !== resources.memory * 2n,
  },
  { name: "--oom-score-adj", why: "a job has no neighbours", isSet: (host) => host.oomScoreAdj !== 0 },
  { name: "--uts host", why: "a job has no host", isSet: (host) => host.utsMode === "host" },
  {
    name: "--cgroupns host",
    why: "the host's control groups are Azure's",
    isSet: (host) => host.cgroupnsMode === "host",
  },
  {
    name: "--mac-address, --link-local-ip, options of endpoints (com.docker.network.endpoint.…)",
    why: "the interface is the one that Azure gives a job",
    isSet: (_host, { endpoints }) =>
      Object.values(endpoints).some(
        ({ config }) =>
          (config?.macAddress ?? "") !== "" ||
          (config?.linkLocalIps.length ?? 0) > 0 ||
          Object.keys(config?.driverOpts ?? {}).some((key) => key.startsWith("com.docker.network.endpoint.")),
      ),
  },
  {
    name: "--security-opt seccomp=unconfined, apparmor=unconfined, systempaths=unconfined",
    why: "Azure confines every container",
    isSet: (host) => host.securityOpt.some((option) => unconfined.test(option) || option === openPaths),
  },
  { name: "--userns", why: "Azure maps users", isSet: (host) => host.usernsMode !== "" },
  {
    name: "--network host",
    why: "a job has a network of its own, on the default network",
    isSet: (host) => host.networkMode === "host",
  },
  {
    name: "--runtime",
    why: "Container Apps has one runtime",
    isSet: (host) => !["", "container-apps"].includes(host.runtime),
  },
  {
    name: "--storage-opt (all but size)",
    why: "jobs have one kind of disk",
    isSet: (host) => Object.keys(host.storageOpt).some((name) => name !== "size"),
  },
];

/**
 * The rules for settings of jobs.
 *
 * @param more settings that are not applied, which other parts of the backend know
 * @param defaultSize of a container that asks for none
 */
export function acaSettings(more: readonly JobSetting[], defaultSize: DefaultSize): SettingRules {
  return {
    unsupportedByExecs: ({ privileged }) => (privileged ? ["exec --privileged"] : []),
    unsupported(record) {
      const names = settingsOf(refused, record).map(({ name }) => name);
      if (names.length === 0 && record.hostConfig !== undefined) {
        agentSeccomp(record.hostConfig, "amd64"); // refuses what the agent would
      }
      return names;
    },
    notApplied(record) {
      const size = toldSize(record.hostConfig, defaultSize);
      return [...settingsOf([...notApplied, ...more], record), ...(size === undefined ? [] : [size])];
    },
  };
}

/** Those of a table that a container has. */
export function settingsOf(table: readonly JobSetting[], record: ContainerRecord): readonly JobSetting[] {
  const host = record.hostConfig;
  return host === undefined ? [] : table.filter(({ isSet }) => isSet(host, record));
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
