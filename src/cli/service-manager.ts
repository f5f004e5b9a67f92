/** Messages to the service manager that has started this process, as systemd: sd_notify(3). */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";

import { builtPrograms } from "../common/built-programs.ts";
import { hasExited } from "../common/child-processes.ts";
import { type LineLogger, ProcessLog } from "../common/process-log.ts";

/** Microseconds in a millisecond. */
const microseconds = 1000;

/** The service manager of a process. */
export class ServiceManager {
  readonly #socket: string;
  readonly #logger: LineLogger;
  /** The helper that sends messages; another one follows where it has ended: without them a watchdog ends the service. */
  #notifier: ChildProcess | undefined;

  private constructor(socket: string, logger: LineLogger, watchdogMs: number | undefined) {
    this.#socket = socket;
    this.#logger = logger;
    if (watchdogMs !== undefined) {
      // Half of the time, as sd_watchdog_enabled(3) recommends.
      setInterval(() => this.#tell("WATCHDOG=1"), watchdogMs / 2).unref();
    }
  }

  /**
   * Finds the service manager in the environment, and removes its variables: no process started from here is the
   * service.
   *
   * @returns undefined if none asks for messages
   */
  static of(environment: NodeJS.ProcessEnv, logger: LineLogger): ServiceManager | undefined {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID = String(process.pid) } = environment;
    delete environment["NOTIFY_SOCKET"];
    delete environment["WATCHDOG_USEC"];
    delete environment["WATCHDOG_PID"];
    if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === "") {
      return undefined;
    }
    const usec = WATCHDOG_PID === String(process.pid) ? Number(WATCHDOG_USEC) : 0;
    return new ServiceManager(NOTIFY_SOCKET, logger, usec >= microseconds ? usec / microseconds : undefined);
  }

  /** Reports that Docker clients are answered, for the first time or after a reload. */
  ready(): void {
    this.#tell("READY=1");
  }

  /** Reports that files are being read again; {@link ready} ends it. */
  reloading(): void {
    const monotonic = process.hrtime.bigint() / 1000n;
    this.#tell("RELOADING=1", `MONOTONIC_USEC=${monotonic}`);
  }

  stopping(): void {
    this.#tell("STOPPING=1");
  }

  #tell(...lines: readonly string[]): void {
    if (this.#notifier === undefined || hasExited(this.#notifier)) {
      try {
        this.#notifier = startNotifier(this.#socket, this.#logger);
      } catch (error) {
        toldNothing(this.#logger, error); // Node throws some errors and emits others as an event.
        return;
      }
    }
    this.#notifier.stdin?.write(`${lines.join("\n")}\n\n`);
  }
}

function toldNothing(logger: LineLogger, error: unknown): void {
  logger.error({ err: error }, "the service manager is told nothing");
}

function startNotifier(socket: string, logger: LineLogger): ChildProcess {
  const notifier = spawn(builtPrograms.agent, ["notify"], {
    env: { NOTIFY_SOCKET: socket },
    stdio: ["pipe", "ignore", "pipe"],
  });
  new ProcessLog(logger, "notify").follow(notifier.stderr);
  notifier.stdin?.on("error", () => {}); // It has ended, and has said why.
  notifier.on("error", (error) => toldNothing(logger, error));
  // It ends with this process, and does not keep it.
  notifier.unref();
  for (const pipe of [notifier.stdin, notifier.stderr] as readonly unknown[]) {
    (pipe as Socket | null)?.unref();
  }
  return notifier;
}
