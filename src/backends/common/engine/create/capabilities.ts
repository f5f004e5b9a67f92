/** Linux capabilities by the names that users write. */
import { invalid } from "../../../../common/errors.ts";

const known: ReadonlySet<string> = new Set(
  `AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
  FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
  NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
  SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`.split(/\s+/),
);

/**
 * Capabilities with `CAP_` and in upper case, `ALL` as it is.
 *
 * @param field the setting they stand in, for the message
 * @throws invalid: one that Linux does not have
 */
export function normalizeCapabilities(names: readonly string[], field: "CapAdd" | "CapDrop"): string[] {
  return names.map((name) => {
    const upper = name.toUpperCase();
    if (upper === "ALL") {
      return upper;
    }
    const capability = upper.replace(/^CAP_/, "");
    if (!known.has(capability)) {
      throw invalid(`invalid ${field}: unknown capability: "CAP_${capability}"`);
    }
    return `CAP_${capability}`;
  });
}
