/** `sockerless serve`: backend and frontend as two processes. */
import type { Config } from "../common/config/load.ts";
import { onAbort } from "../common/on-abort.ts";
import { daemonTitle, endingDaemonTitle, holdStateDirectory } from "./daemon-mark.ts";
import { dockerHostLine } from "./docker-host.ts";
import { giveMemoryBackOnceSettled } from "./give-memory-back.ts";
import { closeInheritedDescriptors } from "./inherited-descriptors.ts";
import { rareLogger } from "./rare-logger.ts";
import { backendService, frontendService } from "./services.ts";
import { onEndRequested, onReloadRequested } from "./signals.ts";
import { type Supervised, supervise } from "./supervisor.ts";

/** Tells whoever waits for it that Docker clients are answered, by a line to paste: none where there is no address. */
export type TellServing = (line?: string) => void;

/**
 * Serves until a signal asks to end.
 *
 * @param config its state directory is there
 * @throws SockerlessError where it does not come to serve
 */
export async function serve(config: Config, tellServing: TellServing = print): Promise<void> {
  process.title = daemonTitle;
  const logger = rareLogger(async () => {
    const { processLogger } = await import("../common/logger.ts");
    return processLogger(config, "supervisor");
  });
  closeInheritedDescriptors(); // After the configuration is read, which may be a shell's /dev/fd/63.
  const services = [backendService(config.backend), frontendService()];

  const ending = new AbortController();
  let supervised: Supervised | undefined;
  onEndRequested(
    () => {
      process.title = endingDaemonTitle;
      ending.abort();
    },
    () => {
      supervised?.kill();
      process.exit(1);
    },
  );
  onReloadRequested(() => supervised?.reload());
  holdStateDirectory(config);
  try {
    supervised = await supervise(services, config, logger, ending.signal);
  } catch (error) {
    if (ending.signal.aborted) {
      return;
    }
    throw error;
  }
  const told = supervised.addresses.get("frontend") ?? [];
  const [address] = told.length > 0 ? told : config.hosts;
  tellServing(address === undefined ? undefined : dockerHostLine(address));
  giveMemoryBackOnceSettled();
  await new Promise<void>((resolve) => onAbort(ending.signal, resolve));
  await supervised.stop();
}

function print(line?: string): void {
  if (line !== undefined) {
    process.stdout.write(`${line}\n`);
  }
}
