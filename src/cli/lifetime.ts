/** The end of a process that runs one service. */
import type { Config, LogLevel } from "../common/config/load.ts";
import type { Supervision } from "../common/held-sockets.ts";
import { type Logger, setLogLevel } from "../common/logger.ts";
import { onAbort } from "../common/on-abort.ts";
import type { RunningService } from "../common/running-service.ts";
import type { StartService } from "./services.ts";

/** The time in which a process must end once asked to; then it exits as it is. */
const endLimitMs = 25_000;

/** The time that a closed process may stay while something keeps it alive. */
const lingerLimitMs = 2000;

/**
 * Starts a service. A request to end before it serves leaves nothing to close. After such a request this process ends
 * in time, even if its service hangs.
 *
 * @param signal aborts when the process is asked to end
 * @throws what the start throws, unless the process was asked to end
 */
export async function startUnlessEnded(
  start: StartService,
  config: Config,
  signal: AbortSignal,
  logger: Logger,
  supervision?: Supervision,
): Promise<RunningService> {
  onAbort(signal, () => endInTime(logger));
  try {
    return await start(config, signal, supervision);
  } catch (error) {
    if (!signal.aborted) {
      throw error;
    }
    return { close: () => Promise.resolve() };
  }
}

function endInTime(logger: Logger): void {
  setTimeout(() => {
    logger.error({ limitMs: endLimitMs }, "not closed in time, ending anyway");
    process.exit(1);
  }, endLimitMs).unref();
}

/**
 * Closes the service and lets the process end by itself; logs what keeps it alive after that, and exits. Never rejects.
 */
export async function closeAndExit(service: RunningService, logger: Logger): Promise<void> {
  try {
    await service.close();
  } catch (error) {
    logger.error({ err: error }, "could not be closed");
    process.exitCode = 1;
  }
  setTimeout(() => {
    logger.warn({ held: process.getActiveResourcesInfo() }, "something holds it open, ending anyway");
    process.exit();
  }, lingerLimitMs).unref();
}

/**
 * Reloads what can be reloaded, and logs what that was. Never rejects.
 *
 * @param logLevel the configured one; undefined: it could not be read, and stays
 */
export async function reloadService(
  service: RunningService | undefined,
  logger: Logger,
  logLevel: LogLevel | undefined,
): Promise<void> {
  const before = logger.level;
  if (logLevel !== undefined) {
    setLogLevel(logLevel);
  }
  const level = before === logger.level ? "" : `; the log level is ${logger.level}`;
  try {
    const reloaded = await service?.reload?.();
    logger.info(
      `SIGHUP: ${reloaded ?? "there is nothing to read again"}${level}; other settings are read at the next start`,
    );
  } catch (error) {
    logger.error({ err: error }, "SIGHUP: could not be read again, all stays as it was");
  }
}
