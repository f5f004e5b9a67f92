/** `sockerless serve --detach`: starts the daemon in its own session, and waits until it serves. */
import { type ChildProcess, fork } from "node:child_process";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

import { endOf, untilExit } from "../common/child-processes.ts";
import type { Config } from "../common/config/load.ts";
import { DaemonLog } from "./daemon-log.ts";
import type { ConfigMessage, ServesMessage } from "./messages.ts";

const program = fileURLToPath(new URL("./serve-detached.js", import.meta.url));

/** Signals that end this process, and the daemon if it does not serve yet. */
const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Starts a daemon, and returns once it answers Docker clients. Then it prints the line to paste on standard output, and
 * on standard error the daemon's process ID and log file, unless these cannot be written to. The daemon keeps nothing
 * of its caller open: neither a terminal nor a descriptor.
 *
 * @param config its state directory exists
 * @returns the exit code; not 0 if the daemon ended instead: standard error then has the lines that it logged, unless a
 *   signal asked for the end
 * @throws SockerlessError if the log cannot be opened
 */
export async function serveDetached(config: Config): Promise<number> {
  const log = DaemonLog.open(config.logFile);
  for (const output of [process.stdout, process.stderr]) {
    output.on("error", () => {}); // The exit code says enough if nothing reads the output.
  }
  let signal: NodeJS.Signals | undefined;
  let daemon: ChildProcess | undefined;
  for (const each of endingSignals) {
    process.on(each, () => {
      signal ??= each;
      daemon?.kill("SIGTERM");
    });
  }
  // The arguments serve to read the configuration again.
  daemon = fork(program, process.argv.slice(2), {
    detached: true,
    stdio: ["ignore", log.descriptor, log.descriptor, "ipc"],
  });
  const outcome = await outcomeOf(daemon, config);
  if (outcome !== undefined && signal === undefined) {
    release(daemon);
    if (outcome.line !== undefined) {
      process.stdout.write(`${outcome.line}\n`);
    }
    process.stderr.write(`sockerless runs in the background as process ${daemon.pid}, log in ${log.path}\n`);
    return 0;
  }
  await untilExit(daemon);
  if (signal !== undefined) {
    return exitCodeOf(signal);
  }
  log.copyNewTo(process.stderr);
  const { exitCode, signalCode } = daemon;
  process.stderr.write(
    `sockerless serve: ended before it served, with ${endOf(daemon)}; log in ${log.path}\n`,
  );
  return signalCode === null ? exitCode || 1 : exitCodeOf(signalCode);
}

/** Makes the daemon serve. @returns its message; undefined if it has ended */
async function outcomeOf(daemon: ChildProcess, config: Config): Promise<ServesMessage | undefined> {
  const outcome = Promise.withResolvers<ServesMessage | undefined>();
  daemon.once("message", (message: ServesMessage) => outcome.resolve(message));
  daemon.once("exit", () => outcome.resolve(undefined));
  daemon.once("error", outcome.reject);
  const message: ConfigMessage = { config, isDetached: true };
  daemon.send(message, () => {}); // If the daemon has ended, "exit" follows.
  return await outcome.promise;
}

/** Lets this process end without ending the daemon. */
function release(daemon: ChildProcess): void {
  for (const each of endingSignals) {
    process.removeAllListeners(each);
  }
  if (daemon.connected) {
    daemon.disconnect();
  }
  daemon.unref();
}

/** A shell's exit code for a process that a signal ended. */
function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}
