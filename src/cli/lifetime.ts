/** The end of a process that runs one service. */
import type { Config } from "../common/config/load.ts";
import { messageOf, SockerlessError } from "../common/errors.ts";
import type { Supervision } from "../common/held-sockets.ts";
import type { Logger } from "../common/logger.ts";
import { onAbort } from "../common/on-abort.ts";
import type { RunningService } from "../common/running-service.ts";
import type { StartService } from "./services.ts";

/** How long a process may take to end, once it is asked to, before it ends as it is. */
const endLimitMs = 25_000;

/** How long a closed process may linger because something still holds it. */
const lingerLimitMs = 2000;

/**
 * Starts a service. If it is asked to end before it serves, there is nothing to close. From when it is asked to, this process
 * ends in time, whatever its service waits for.
 *
 * @param signal aborts when it is asked to end
 * @throws what the start throws, unless it was asked to end
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
 * Closes the service and lets the process end by itself; what keeps it alive after that is named, and cut off. Never
 * rejects.
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

/** Reads again what can be, and says in the log what that was. Never rejects. */
export async function reloadService(service: RunningService | undefined, logger: Logger): Promise<void> {
  try {
    const reloaded = await service?.reload?.();
    logger.info(
      `SIGHUP: ${reloaded ?? "there is nothing to read again"}; settings are read at the next start`,
    );
  } catch (error) {
    logger.error({ err: error }, "SIGHUP: could not be read again, all stays as it was");
  }
}

/** Says on standard error why a program cannot go on: one line where the error is one of ours, else with its stack. */
export function reportFailure(name: string, error: unknown): void {
  const expected = error instanceof SockerlessError;
  const text = expected || !(error instanceof Error) ? messageOf(error) : (error.stack ?? error.message);
  process.stderr.write(`sockerless ${name}: ${text}\n`);
}
