/** Linux' capabilities: users' spellings and the kernel's names. */
import { invalid } from "../../common/errors.ts";
import type { HostConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";

/** All capabilities, ordered by bit (capability.h, Linux 6). */
export const capabilitiesByBit: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
];

/** Default capabilities of a container; dockerd's list. */
export const defaultCapabilities: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** Capabilities that a user adds to and drops from {@link defaultCapabilities}, in canonical form. */
export interface AskedCapabilities {
  readonly added: readonly string[];
  readonly dropped: readonly string[];
}

/**
 * The capabilities in a host configuration, which keeps the user's spelling (`net_admin`, `CAP_NET_ADMIN`); here they
 * are in upper case with `CAP_`; `ALL` is unchanged.
 */
export function askedCapabilities(
  host: Pick<HostConfig, "capAdd" | "capDrop"> | undefined,
): AskedCapabilities {
  return {
    added: (host?.capAdd ?? []).map(canonicalCapability),
    dropped: (host?.capDrop ?? []).map(canonicalCapability),
  };
}

/** @throws invalid, in dockerd's words, for a capability that Linux does not have */
export function validateCapabilities(host: Pick<HostConfig, "capAdd" | "capDrop">): void {
  for (const [field, names] of [["CapAdd", host.capAdd] as const, ["CapDrop", host.capDrop] as const]) {
    for (const name of names.map(canonicalCapability)) {
      if (name !== "ALL" && !capabilitiesByBit.includes(name)) {
        throw invalid(`invalid ${field}: unknown capability: "${name}"`);
      }
    }
  }
}

function canonicalCapability(name: string): string {
  const upper = name.toUpperCase();
  return upper === "ALL" || upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
}
