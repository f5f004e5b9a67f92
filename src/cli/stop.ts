/** `sockerless stop`: ends the daemon of a state directory. */
import { setTimeout as delay } from "node:timers/promises";

import { conflict, forbidden } from "../common/errors.ts";
import { type DaemonProcess, findDaemons, isAlive, stateDirectoryOf } from "./daemon-processes.ts";

/** Time between two looks at a process that ends: Node cannot be told of the end of one that is not its child. */
const pollMs = 50;

/**
 * Sends SIGTERM to the daemons of this user that have a state directory, unless they end already, and waits until they are
 * gone. There is one, or another beside it that finds the state in use. That there is none is no error, as with init
 * scripts: nothing runs, as was asked for.
 *
 * @returns a line for the user
 * @throws SockerlessError `conflict`: it is another user's; `forbidden`: it cannot be told whether there is one
 */
export async function stop(stateDir: string, uid: number = process.geteuid?.() ?? 0): Promise<string> {
  const directory = stateDirectoryOf(stateDir);
  const found = directory === undefined ? [] : findDaemons(directory);
  const own = found.filter((daemon) => daemon.uid === uid);
  if (own.length > 0) {
    await Promise.all(own.map(end));
    return `sockerless has ended (process ${own.map(({ pid }) => pid).join(", ")}, state directory ${stateDir})`;
  }
  const [others] = found;
  if (others !== undefined) {
    throw conflict(
      `state directory ${stateDir} is in use by process ${others.pid} of user ID ${others.uid}, who alone can stop it`,
    );
  }
  if (directory !== undefined && directory.uid !== uid && uid !== 0) {
    throw forbidden(
      `state directory ${stateDir} belongs to user ID ${directory.uid}, whose processes are not shown to others`,
    );
  }
  return `no sockerless runs with state directory ${stateDir}`;
}

async function end(daemon: DaemonProcess): Promise<void> {
  // A second signal would have it end without waiting for what is under way.
  if (!daemon.isEnding && isAlive(daemon)) {
    process.kill(daemon.pid, "SIGTERM");
  }
  while (isAlive(daemon)) {
    await delay(pollMs);
  }
}
