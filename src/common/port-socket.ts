import { join } from "node:path";

/** Path of the unix socket on which a backend that listens on TCP answers the processes of its own machine. */
export function portSocketOf(runDir: string): string {
  return join(runDir, "port.sock");
}
