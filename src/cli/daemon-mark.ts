/** The marks by which `sockerless stop` finds the daemon of a state directory. */
import { openSync } from "node:fs";

import type { Config } from "../common/config/load.ts";
import { fromFileError, messageOf } from "../common/errors.ts";

/** Process title of a supervisor, which replaces its command line. */
export const daemonTitle = "sockerless";

/** Process title of a supervisor that is ending: another signal would end it at once. */
export const endingDaemonTitle = "sockerless (ending)";

/**
 * Keeps the state directory open while this process lives. The kernel closes it with the process, however that ends:
 * unlike a file with a process ID, it never points at another process.
 *
 * @throws SockerlessError of the kind that the errno means
 */
export function holdStateDirectory({ stateDir }: Config): void {
  try {
    openSync(stateDir, "r");
  } catch (error) {
    throw fromFileError(error, `cannot open state directory ${stateDir}: ${messageOf(error)}`);
  }
}
