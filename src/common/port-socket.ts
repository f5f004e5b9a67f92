import { join } from "node:path";

/** Path of the unix socket where a backend that listens on TCP serves processes of its own machine. */
export function portSocketOf(runDir: string): string {
  return join(runDir, "port.sock");
}
