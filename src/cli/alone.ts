/** `sockerless frontend` and `sockerless backend`: one service in this process. */
import type { Config, LogLevel } from "../common/config/load.ts";
import { type Logger, processLogger } from "../common/logger.ts";
import type { RunningService } from "../common/running-service.ts";
import { closeAndExit, reloadService, startUnlessEnded } from "./lifetime.ts";
import { loadService, type Service } from "./services.ts";
import { onEndRequested, onReloadRequested } from "./signals.ts";

/**
 * Serves until a signal asks this process to end.
 *
 * @param reread reads the configuration again
 * @param readyLine printed on standard output once it serves; receives the addresses that the service listens on
 */
export async function serveAlone(
  service: Service,
  config: Config,
  reread: () => Config,
  readyLine: (addresses: readonly string[]) => string,
): Promise<void> {
  process.title = `sockerless-${service.name}`;
  const ended = Promise.withResolvers<void>();
  const ending = new AbortController();
  onEndRequested(
    () => {
      ending.abort();
      ended.resolve();
    },
    () => process.exit(1),
  );
  const logger = processLogger(config, service.name);
  let running: RunningService | undefined;
  onReloadRequested(() => void reloadService(running, logger, levelOf(reread, logger)));
  const start = await loadService(service);
  running = await startUnlessEnded(start, config, ending.signal, logger);
  if (!ending.signal.aborted) {
    process.stdout.write(`${readyLine(running.addresses ?? [])}\n`);
  }
  await ended.promise;
  await closeAndExit(running, logger);
}

/** The level that is configured now; undefined if the configuration cannot be read. */
function levelOf(reread: () => Config, logger: Logger): LogLevel | undefined {
  try {
    return reread().logLevel;
  } catch (error) {
    logger.error({ err: error }, "SIGHUP: the configuration could not be read again");
    return undefined;
  }
}
