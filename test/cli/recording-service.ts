/** Services for the supervisor's tests: they write what happens to them into a file of the state directory. */
import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";

import type { Config } from "../../src/common/config/load.ts";
import { conflict } from "../../src/common/errors.ts";
import type { RunningService } from "../../src/common/running-service.ts";

const name = process.argv[2] ?? "";

function record(config: Config, event: string): void {
  appendFileSync(join(config.stateDir, "events"), `${name} ${event} ${process.pid}\n`);
}

/** Serves until it is closed. */
export async function startWell(config: Config): Promise<RunningService> {
  record(config, "started");
  // A server keeps the process alive.
  const listening = setInterval(() => {}, 60_000);
  return {
    addresses: [`unix://${config.stateDir}/${name}.sock`],
    close: async () => {
      clearInterval(listening);
      record(config, "closed");
    },
  };
}

/** Serves until it is closed, which fails; and something holds it open. */
export async function startToBeStuck(config: Config): Promise<RunningService> {
  const service = await startWell(config);
  setInterval(() => {}, 60_000);
  return {
    ...service,
    close: async () => {
      await service.close();
      throw conflict("it is stuck");
    },
  };
}

/** Crashes soon after its first start, and serves after the next. */
export async function startAndCrashOnce(config: Config): Promise<RunningService> {
  const crashedBefore = existsSync(join(config.stateDir, "events"));
  const service = await startWell(config);
  if (!crashedBefore) {
    setTimeout(() => process.exit(3), 50);
  }
  return service;
}

/** Cannot start. */
export async function startInVain(config: Config): Promise<RunningService> {
  record(config, "refused");
  throw conflict("the address is in use");
}

/** Does not start by itself. */
export async function startUntilEnded(config: Config, signal: AbortSignal): Promise<RunningService> {
  record(config, "starting");
  const waiting = setInterval(() => {}, 60_000);
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  clearInterval(waiting);
  record(config, "abandoned");
  throw signal.reason;
}
