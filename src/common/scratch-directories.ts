import { tmpdir } from "node:os";

/** Directories for files that nobody looks for later, in the order to try: in memory first, where the machine has that. */
export function scratchDirectories(): readonly string[] {
  return process.platform === "linux" ? ["/dev/shm", tmpdir()] : [tmpdir()];
}
