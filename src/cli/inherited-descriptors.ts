import { closeSync, readdirSync, readFileSync } from "node:fs";

const firstAfterStandard = 3;
/** `O_CLOEXEC` in the `fdinfo` of the kernel, which prints flags in octal. */
const closeOnExec = 0o2000000;

/**
 * Closes all inherited descriptors except the standard streams, so that no service inherits them in turn. Node opens
 * everything close-on-exec; a descriptor that is not was inherited.
 *
 * @param kept descriptors to leave open
 */
export function closeInheritedDescriptors(kept: readonly number[]): void {
  for (const fd of readdirSync("/proc/self/fd").map(Number)) {
    if (fd >= firstAfterStandard && !kept.includes(fd) && isInheritable(fd)) {
      closeSync(fd);
    }
  }
}

function isInheritable(fd: number): boolean {
  let info: string;
  try {
    info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  } catch {
    return false; // The directory's own descriptor, closed by now.
  }
  const flags = /^flags:\s*([0-7]+)$/m.exec(info)?.[1];
  return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0;
}
