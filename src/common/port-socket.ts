import { join } from "node:path";

/** Path of the unix socket where a backend that listens on TCP serves processes of its own machine. */
export function portSocketOf(runDir: string): string {
  return join(runDir, "port.sock");
}

/** Path of the unix socket where the builder of `serve` serves, while there is one. */
export function builderSocketOf(runDir: string): string {
  return join(runDir, "builder.sock");
}
