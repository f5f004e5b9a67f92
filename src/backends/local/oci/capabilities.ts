import { readFileSync } from "node:fs";
import { invalid } from "../../../common/errors.ts";
import { defaultCapabilities } from "../../common/default-capabilities.ts";
import type { OciCapabilities } from "./types.ts";

/** Linux' capabilities in the order of their bits (capability.h, Linux 6). */
const byBit: readonly string[] = [
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

/** The capabilities of a bounding set as `/proc/<pid>/status` prints it (hexadecimal). */
export function capabilitiesOfMask(mask: string): string[] {
  const bits = BigInt(`0x${mask.trim()}`);
  return byBit.filter((_, bit) => (bits >> BigInt(bit)) & 1n);
}

/** What this process could hand on: its own bounding set. */
export function availableCapabilities(): string[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const mask = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask === undefined ? [...defaultCapabilities] : capabilitiesOfMask(mask);
}

/**
 * Normalises names as `--cap-add` and `--cap-drop` take them: any case, with
 * or without `CAP_`, or ALL.
 *
 * @throws SockerlessError `invalid` in dockerd's words for a name that Linux or this machine does not have
 */
function normalise(names: readonly string[], available: readonly string[]): string[] {
  return names.map((given) => {
    const upper = given.toUpperCase();
    if (upper === "ALL") {
      return upper;
    }
    const name = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    if (!byBit.includes(name)) {
      throw invalid(`unknown capability: "${name}"`);
    }
    if (!available.includes(name)) {
      throw invalid(
        `capability not supported by your kernel or not available in the current environment: "${name}"`,
      );
    }
    return name;
  });
}

/**
 * The bounding set of a container.
 *
 * @param available what the machine can give
 * @throws SockerlessError `invalid`
 */
export function containerCapabilities(
  given: {
    readonly capAdd: readonly string[];
    readonly capDrop: readonly string[];
    readonly privileged: boolean;
  },
  available: readonly string[],
): string[] {
  if (given.privileged) {
    return [...available];
  }
  const drop = normalise(given.capDrop, available);
  const add = normalise(given.capAdd, available);
  if (add.includes("ALL")) {
    return available.filter((name) => !drop.includes(name));
  }
  const named = add.filter((name) => name !== "ALL");
  if (drop.includes("ALL")) {
    return [...new Set(named)];
  }
  const kept = defaultCapabilities.filter((name) => !drop.includes(name) && available.includes(name));
  return [...new Set([...kept, ...named])];
}

/** The sets of a process; inheritable and ambient stay empty, as under dockerd. */
export function capabilitySets(bounding: readonly string[]): OciCapabilities {
  return { bounding, effective: bounding, permitted: bounding };
}
