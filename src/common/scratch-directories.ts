import { tmpdir } from "node:os";

/**
 * Directories for temporary files that never need a path later, in order of preference: in memory first where possible.
 */
export function scratchDirectories(): readonly string[] {
  return process.platform === "linux" ? ["/dev/shm", tmpdir()] : [tmpdir()];
}
