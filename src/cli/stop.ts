/** `sockerless stop`: ends the daemon of a state directory. */
import { setTimeout as delay } from "node:timers/promises";

import { conflict, errnoOf, forbidden, unavailable } from "../common/errors.ts";
import { type DaemonProcess, findDaemons, isAlive, stateDirectoryOf } from "./daemon-processes.ts";

/** Time between two looks at a process that ends: Node cannot be told of the end of one that is not its child. */
const pollMs = 50;

/** Time after which the user is told that it takes longer. */
const tellAfterMs = 3000;

/** Longer than an orderly end may take: 15 s for the builder, 30 s each for frontend and backend. */
const endLimitMs = 90_000;

/**
 * Sends SIGTERM to the daemons of this user that have a state directory, unless they end already, and waits until they are
 * gone. There is one, or another beside it that finds the state in use. That there is none is no error, as with init
 * scripts: nothing runs, as was asked for.
 *
 * @param tell gets a line for the user while it waits
 * @returns a line for the user
 * @throws SockerlessError `conflict`: it is another user's; `forbidden`: it cannot be told whether there is one;
 *   `unavailable`: it still runs after the limit
 */
export async function stop(
  stateDir: string,
  tell: (line: string) => void,
  limitMs: number = endLimitMs,
): Promise<string> {
  const uid = process.geteuid?.() ?? 0;
  const directory = stateDirectoryOf(stateDir);
  const found = directory === undefined ? [] : findDaemons(directory);
  const known = found.filter(({ isKnown }) => isKnown);
  const own = known.filter(({ uids }) => uids.every((each) => each === uid));
  if (own.length > 0) {
    await Promise.all(own.map((daemon) => end(daemon, tell, limitMs)));
    return `sockerless has ended (process ${own.map(({ pid }) => pid).join(", ")}, state directory ${stateDir})`;
  }
  const [others] = known;
  if (others !== undefined) {
    throw conflict(`state directory ${stateDir} is in use by ${nameOf(others)}: stop it as that user`);
  }
  if (directory !== undefined && directory.uid !== BigInt(uid) && uid !== 0) {
    throw forbidden(
      `state directory ${stateDir} belongs to user ID ${directory.uid}, whose processes are not shown to others`,
    );
  }
  if (found.length > 0) {
    throw forbidden(
      `it is not shown whether state directory ${stateDir} is in use by ${found.map(nameOf).join(", ")}`,
    );
  }
  return `no sockerless serve runs with state directory ${stateDir}`;
}

async function end(daemon: DaemonProcess, tell: (line: string) => void, limitMs: number): Promise<void> {
  // A second signal would have it end without waiting for what is under way.
  if (!daemon.isEnding && isAlive(daemon)) {
    signal(daemon.pid);
  }
  const begin = performance.now();
  let isTold = false;
  while (isAlive(daemon)) {
    const waitedMs = performance.now() - begin;
    if (waitedMs > limitMs) {
      throw unavailable(`process ${daemon.pid} still runs ${limitMs / 1000} s after it was asked to end`);
    }
    if (!isTold && waitedMs > tellAfterMs) {
      tell(`waiting for the end of process ${daemon.pid}, for ${limitMs / 1000} s at most`);
      isTold = true;
    }
    await delay(pollMs);
  }
}

function signal(pid: number): void {
  try {
    process.kill(pid, "SIGTERM");
  } catch (error) {
    if (errnoOf(error) !== "ESRCH") {
      throw error;
    } // It has ended by itself.
  }
}

function nameOf({ pid, uids }: DaemonProcess): string {
  return `process ${pid} of user ID ${[...new Set(uids)].join(" and ")}`;
}
