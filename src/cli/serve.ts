/** `sockerless serve`: backend and frontend as two processes. */
import type { Config } from "../common/config/load.ts";
import { createLogger } from "../common/logger.ts";
import { dockerHostLine } from "./docker-host.ts";
import { backendService, frontendService } from "./services.ts";
import { onEndRequested } from "./signals.ts";
import { type Supervised, supervise } from "./supervisor.ts";

/** Serves until a signal asks to end; prints the line to paste once Docker clients are answered. */
export async function serve(config: Config): Promise<void> {
  process.title = "sockerless";
  const logger = createLogger({ level: config.logLevel, process: "supervisor" });
  const services = [backendService(config.backend), frontendService()];

  const ending = new AbortController();
  let supervised: Supervised | undefined;
  onEndRequested(
    () => ending.abort(),
    () => {
      supervised?.kill();
      process.exit(1);
    },
  );
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
  if (address !== undefined) {
    process.stdout.write(`${dockerHostLine(address)}\n`);
  }
  await aborted(ending.signal);
  await supervised.stop();
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    }
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
