/** `sockerless stop`: ends the daemon of a state directory. */
import { setTimeout as delay } from "node:timers/promises";

import { conflict, errnoOf, forbidden, unavailable } from "../common/errors.ts";
import { type DaemonProcess, findDaemons, isAlive, stateDirectoryOf } from "./daemon-processes.ts";

/** Polling interval: Node gets no event for the end of a process that is not its child. */
const pollMs = 50;

/** Time after which the user is informed that it takes longer. */
const reportAfterMs = 3000;

/** Longer than an orderly end may take: 15 s for the builder, 30 s each for frontend and backend. */
const endLimitMs = 90_000;

/**
 * Sends SIGTERM to this user's daemons of a state directory, unless they are ending already, and waits until they have
 * ended. There is one, or a second one that is about to fail because the state is in use. If none runs, that is no
 * error, as with init scripts.
 *
 * @param report receives a line for the user while it waits
 * @returns a line for the user
 * @throws SockerlessError `conflict`: the daemon is another user's; `forbidden`: cannot find out whether there is one;
 *   `unavailable`: it still runs after the limit
 */
export async function stop(
  stateDir: string,
  report: (line: string) => void,
  limitMs: number = endLimitMs,
): Promise<string> {
  const uid = process.geteuid?.() ?? 0;
  const directory = stateDirectoryOf(stateDir);
  const found = directory === undefined ? [] : findDaemons(directory);
  const known = found.filter(({ isKnown }) => isKnown);
  const own = known.filter(({ uids }) => uids.every((each) => each === uid));
  if (own.length > 0) {
    await Promise.all(own.map((daemon) => end(daemon, report, limitMs)));
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

async function end(daemon: DaemonProcess, report: (line: string) => void, limitMs: number): Promise<void> {
  // A second signal would make it end without finishing its work.
  if (!daemon.isEnding && isAlive(daemon)) {
    signal(daemon.pid);
  }
  const begin = performance.now();
  let isReported = false;
  while (isAlive(daemon)) {
    const waitedMs = performance.now() - begin;
    if (waitedMs > limitMs) {
      throw unavailable(`process ${daemon.pid} still runs ${limitMs / 1000} s after it was asked to end`);
    }
    if (!isReported && waitedMs > reportAfterMs) {
      report(`waiting for the end of process ${daemon.pid}, for ${limitMs / 1000} s at most`);
      isReported = true;
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
    } // It has already ended.
  }
}

function nameOf({ pid, uids }: DaemonProcess): string {
  return `process ${pid} of user ID ${[...new Set(uids)].join(" and ")}`;
}
