import { existsSync, readFileSync } from "node:fs";
import path from "node:path/posix";
import type { HelloResponse } from "../../../gen/sockerless/host/v1/host_pb.ts";
import { maskedPaths, readonlyPaths } from "../../security/default-paths.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { availableCapabilities, capabilitySets, containerCapabilities } from "./capabilities.ts";
import { containerDevices } from "./devices.ts";
import type { LookedUpPaths } from "./looked-up-paths.ts";
import { containerMounts, sourceOf } from "./mounts.ts";
import { containerNamespaces } from "./namespaces.ts";
import { machineMounts, type MountLookup, rootPropagation } from "./propagation.ts";
import { containerResources } from "./resources.ts";
import { seccompFilter } from "./seccomp.ts";
import { parseSecurityOptions } from "../../security/options.ts";
import { refuseLongTexts } from "./text-limits.ts";
import type { OciSpec } from "./types.ts";

/** Facts about the machine that containers' configurations depend on. */
export interface MachineProfile {
  /** Capabilities available on the machine. */
  readonly capabilities: readonly string[];
  readonly cgroupVersion: string;
  /** Whether the runtime can make a mount recursively read-only. */
  readonly recursiveReadOnly: boolean;
  /** A lookup in the machine's mounts as they are now. */
  mounts(): MountLookup;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Whether a sysctl such as `net.ipv4.ping_group_range` exists. */
  hasSysctl(name: string): boolean;
  /** Whether the kernel confines processes by AppArmor profiles. */
  readonly appArmor: boolean;
}

/** Reads this machine's profile. */
export function readMachineProfile(
  hello: Pick<HelloResponse, "apparmor" | "cgroupVersion" | "runtimeName" | "runtimeVersion">,
): MachineProfile {
  return {
    capabilities: availableCapabilities(),
    cgroupVersion: hello.cgroupVersion,
    recursiveReadOnly: knowsRecursiveReadOnly(hello.runtimeName, hello.runtimeVersion),
    mounts: machineMounts,
    maskedPaths: [...maskedPaths, ...thermalThrottlePaths()],
    readonlyPaths: readonlyPaths,
    hasSysctl: (name) => existsSync(`/proc/sys/${name.replaceAll(".", "/")}`),
    appArmor: hello.apparmor,
  };
}

/** `rro` needs runc 1.1 or crun 1.4. The kernel is new enough, as our own mounts need the same version. */
export function knowsRecursiveReadOnly(runtime: string, version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > 1 || (major === 1 && minor >= (runtime === "crun" ? 4 : 1));
}

/** Per-CPU counters that reveal the machine's load; each exists only on some machines. */
function thermalThrottlePaths(): string[] {
  const range = readFileSync("/sys/devices/system/cpu/possible", "utf8").trim();
  const last = Number(range.split("-").at(-1) ?? 0);
  const paths = Array.from(
    { length: last + 1 },
    (_, cpu) => `/sys/devices/system/cpu/cpu${cpu}/thermal_throttle`,
  );
  return paths.filter((path) => existsSync(path));
}

/**
 * The OCI runtime configuration of a container, except for what the host process fills in (root.path, process.user, the
 * network namespace, cgroup and managed files).
 *
 * @param paths found for the workload
 * @throws SockerlessError `invalid` for settings that contradict each other or the machine, or are too long
 */
export function ociSpec(workload: WorkloadSpec, machine: MachineProfile, paths: LookedUpPaths): OciSpec {
  const { record } = workload;
  const given = record.hostConfig;
  const privileged = given?.privileged ?? false;
  const security = parseSecurityOptions(given?.securityOpt ?? []);
  const bounding = containerCapabilities(
    { capAdd: given?.capAdd ?? [], capDrop: given?.capDrop ?? [], privileged },
    machine.capabilities,
  );
  const seccomp = seccompFilter(security.seccomp, privileged, bounding);
  const { devices, rules } = containerDevices(
    {
      mappings: given?.resources?.devices ?? [],
      cgroupRules: given?.resources?.deviceCgroupRules ?? [],
      privileged,
    },
    paths,
  );
  const openPaths = privileged || security.systemPathsUnconfined;
  const ownUts = given?.utsMode !== "host";
  const sysctl = sysctls(workload, machine);
  const mountOf = machine.mounts();
  const propagation = rootPropagation(
    workload.mounts.map((mount) => [mount, sourceOf(mount)]),
    (path) => mountOf(paths.realPath(path)),
  );
  const spec: OciSpec = {
    ociVersion: "1.0.2",
    root: { path: "rootfs", readonly: given?.readonlyRootfs ?? false },
    ...(ownUts && { hostname: record.config?.hostname ?? "" }),
    process: {
      terminal: record.config?.tty ?? false,
      ...(given !== undefined &&
        given.consoleHeight > 0 && {
          consoleSize: { height: given.consoleHeight, width: given.consoleWidth },
        }),
      user: { uid: 0, gid: 0 },
      args: workload.args,
      env: workload.env,
      cwd: record.config?.workingDir || "/",
      capabilities: capabilitySets(bounding),
      rlimits: (given?.resources?.ulimits ?? []).map(({ name, soft, hard }) => ({
        type: `RLIMIT_${name.toUpperCase()}`,
        soft: BigInt.asUintN(64, soft),
        hard: BigInt.asUintN(64, hard),
      })),
      noNewPrivileges: security.noNewPrivileges,
      ...(machine.appArmor && !privileged && appArmor(security.appArmor)),
      oomScoreAdj: given?.oomScoreAdj ?? 0,
    },
    mounts: containerMounts(workload.mounts, {
      shmSize: given?.shmSize ?? 0n,
      readonlyRootfs: given?.readonlyRootfs ?? false,
      privileged,
      ipcMode: given?.ipcMode ?? "",
      recursiveReadOnly: machine.recursiveReadOnly,
      writableCgroups: security.writableCgroups ?? privileged,
    }),
    ...(Object.keys(given?.annotations ?? {}).length > 0 && { annotations: given?.annotations ?? {} }),
    linux: {
      namespaces: containerNamespaces(given, workload.network, machine.cgroupVersion),
      ...cgroupsPath(record.id, given?.resources?.cgroupParent ?? ""),
      maskedPaths: given?.maskedPaths?.values ?? (openPaths ? [] : machine.maskedPaths),
      readonlyPaths: given?.readonlyPaths?.values ?? (openPaths ? [] : machine.readonlyPaths),
      devices,
      resources: containerResources(given?.resources, rules, paths),
      ...(Object.keys(sysctl).length > 0 && { sysctl }),
      ...(seccomp !== undefined && { seccomp }),
      ...(propagation !== undefined && { rootfsPropagation: propagation }),
    },
  };
  refuseLongTexts(spec);
  return spec;
}

/** Allows ping and low ports without a capability in a container's own network namespace, as in dockerd. */
function sysctls(workload: WorkloadSpec, machine: MachineProfile): Record<string, string> {
  const own = workload.network.kind === "networks" || workload.network.kind === "none";
  const defaults: Record<string, string> = {};
  if (own && machine.hasSysctl("net.ipv4.ping_group_range")) {
    defaults["net.ipv4.ping_group_range"] = "0 2147483647";
  }
  if (own && machine.hasSysctl("net.ipv4.ip_unprivileged_port_start")) {
    defaults["net.ipv4.ip_unprivileged_port_start"] = "0";
  }
  // The sysctl equals setdomainname(2), and works with runtimes that do not know the specification's field.
  const domainname = workload.record.config?.domainname ?? "";
  if (domainname !== "" && workload.record.hostConfig?.utsMode !== "host") {
    defaults["kernel.domainname"] = domainname;
  }
  return { ...defaults, ...(workload.record.hostConfig?.sysctls ?? {}) };
}

/** A control group below the user's parent, relative to the hierarchies' root, as with dockerd's cgroupfs driver. */
function cgroupsPath(id: string, parent: string): { cgroupsPath?: string } {
  return parent === "" ? {} : { cgroupsPath: path.normalize(`/${parent}/${id}`) };
}

/**
 * The requested profile; the runtime checks whether it is loaded. As under dockerd, a privileged container has none,
 * and profiles have no effect without AppArmor. `unconfined` is not passed on: sockerless loads no profile, so that is
 * the default.
 */
function appArmor(asked: string | undefined): { apparmorProfile?: string } {
  return asked === undefined || asked === "" || asked === "unconfined" ? {} : { apparmorProfile: asked };
}
