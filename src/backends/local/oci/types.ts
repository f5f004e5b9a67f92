/**
 * The parts of the OCI runtime specification (1.0.2, config.json) that this driver writes, with the specification's
 * names.
 */

import type { ResolvedProfile } from "../../security/seccomp.ts";

export interface OciSpec {
  ociVersion: string;
  /** The host process fills in `root.path`. */
  root: { path: string; readonly: boolean };
  hostname?: string;
  process: OciProcess;
  mounts: OciMount[];
  annotations?: Record<string, string>;
  linux: OciLinux;
}

export interface OciProcess {
  terminal: boolean;
  consoleSize?: { height: number; width: number };
  /** The host process fills in `user`, which needs the container's passwd file. */
  user: { uid: number; gid: number; additionalGids?: number[] };
  args: readonly string[];
  env: readonly string[];
  cwd: string;
  capabilities: OciCapabilities;
  /** Unsigned 64-bit; 2^64 − 1 is unlimited. */
  rlimits: { type: string; soft: bigint; hard: bigint }[];
  noNewPrivileges: boolean;
  apparmorProfile?: string;
  oomScoreAdj?: number;
}

export interface OciCapabilities {
  bounding: readonly string[];
  effective: readonly string[];
  permitted: readonly string[];
  inheritable?: readonly string[];
}

export interface OciMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

export interface OciNamespace {
  type: "pid" | "network" | "ipc" | "uts" | "mount" | "cgroup" | "user";
  path?: string;
}

export interface OciDevice {
  path: string;
  type: "c" | "b";
  major: number;
  minor: number;
  fileMode: number;
  uid: number;
  gid: number;
}

export interface OciDeviceRule {
  allow: boolean;
  type?: "a" | "c" | "b";
  major?: number;
  minor?: number;
  access: string;
}

export interface OciLinux {
  namespaces: OciNamespace[];
  /** Path of the container's control group; if absent, the host process fills it in. */
  cgroupsPath?: string;
  maskedPaths: readonly string[];
  readonlyPaths: readonly string[];
  devices: OciDevice[];
  resources: OciResources;
  sysctl?: Record<string, string>;
  seccomp?: ResolvedProfile;
  rootfsPropagation?: string;
}

export interface OciResources {
  devices: OciDeviceRule[];
  memory?: {
    limit?: number;
    reservation?: number;
    swap?: number;
    swappiness?: number;
    disableOOMKiller?: boolean;
  };
  cpu?: {
    shares?: number;
    quota?: number;
    period?: number;
    realtimeRuntime?: number;
    realtimePeriod?: number;
    cpus?: string;
    mems?: string;
  };
  pids?: { limit: number };
  blockIO?: {
    weight?: number;
    weightDevice?: { major: number; minor: number; weight: number }[];
    throttleReadBpsDevice?: OciThrottle[];
    throttleWriteBpsDevice?: OciThrottle[];
    throttleReadIOPSDevice?: OciThrottle[];
    throttleWriteIOPSDevice?: OciThrottle[];
  };
}

export interface OciThrottle {
  major: number;
  minor: number;
  rate: number;
}
