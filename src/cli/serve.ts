/** `sockerless serve`: backend and frontend in two processes. */
import { LatestOnly } from "../backends/concurrency/latest-only.ts";
import type { Config } from "../common/config/load.ts";
import { onAbort } from "../common/on-abort.ts";
import { readConfig } from "./config-reader.ts";
import { daemonTitle, endingDaemonTitle, holdStateDirectory } from "./daemon-mark.ts";
import { dockerHostLine } from "./docker-host.ts";
import { giveMemoryBackOnceSettled } from "./give-memory-back.ts";
import { activatedSockets } from "./activated-sockets.ts";
import { closeInheritedDescriptors } from "./inherited-descriptors.ts";
import { rareLogger } from "./rare-logger.ts";
import { backendService, frontendService } from "./services.ts";
import { onEndRequested, onReloadRequested } from "./signals.ts";
import { ServiceManager } from "./service-manager.ts";
import { type Supervised, supervise } from "./supervisor.ts";

/** Reports that Docker clients are answered, with a line to paste; without one if the daemon has no address. */
export type ReportServing = (line?: string) => void;

/**
 * Serves until a signal asks this process to end.
 *
 * @param config its state directory exists
 * @throws SockerlessError if it cannot begin to serve
 */
export async function serve(config: Config, reportServing: ReportServing = print): Promise<void> {
  process.title = daemonTitle;
  const logger = rareLogger(async () => {
    const { processLogger } = await import("../common/logger.ts");
    return processLogger(config, "supervisor");
  });
  const manager = ServiceManager.of(process.env, logger);
  const activated = activatedSockets(config.hosts, process.env);
  // Only now: the configuration may have come from /dev/fd/63.
  closeInheritedDescriptors(activated.map(({ handle }) => handle.fd));
  const services = [backendService(config.backend), frontendService()];

  const ending = new AbortController();
  let supervised: Supervised | undefined;
  onEndRequested(
    () => {
      process.title = endingDaemonTitle;
      manager?.stopping();
      ending.abort();
    },
    () => {
      supervised?.kill();
      process.exit(1);
    },
  );
  const reloads = new LatestOnly();
  onReloadRequested(() => void reloads.run(reload));
  holdStateDirectory(config);
  try {
    supervised = await supervise(services, config, logger, ending.signal, activated);
  } catch (error) {
    if (ending.signal.aborted) {
      return;
    }
    throw error;
  }
  const addresses = supervised.addresses.get("frontend") ?? [];
  const [address] = addresses.length > 0 ? addresses : config.hosts;
  reportServing(address === undefined ? undefined : dockerHostLine(address));
  manager?.ready();
  giveMemoryBackOnceSettled();
  await new Promise<void>((resolve) => onAbort(ending.signal, resolve));
  await supervised.stop();

  async function reload(): Promise<void> {
    if (supervised !== undefined && !ending.signal.aborted) {
      manager?.reloading();
      const { read } = await readConfig().catch(() => ({ read: undefined }));
      if (read === undefined) {
        logger.error({}, "SIGHUP: the configuration could not be read again");
      }
      await supervised.reload(read?.config.logLevel);
      if (!ending.signal.aborted) {
        manager?.ready();
      }
    }
  }
}

function print(line?: string): void {
  if (line !== undefined) {
    process.stdout.write(`${line}\n`);
  }
}
