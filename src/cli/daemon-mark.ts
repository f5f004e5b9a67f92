/** The marks by which `sockerless stop` knows the daemon of a state directory. */
import { openSync } from "node:fs";

import type { Config } from "../common/config/load.ts";
import { fromFileError, messageOf } from "../common/errors.ts";

/** Title of a supervisor, in place of its command line. */
export const daemonTitle = "sockerless";

/** Title of a supervisor that was asked to end: another signal would have it end at once. */
export const endingDaemonTitle = "sockerless (ending)";

/**
 * Keeps the state directory open for as long as this process lives. The kernel forgets that with the process, however it
 * ends: unlike a file with a process ID, it never names another one.
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
