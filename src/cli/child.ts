/**
 * A process that the supervisor made: `child.js NAME MODULE EXPORT`. It loads its code at once, serves when it is told
 * the configuration, and ends when it is told to or when the supervisor is gone: a frontend or backend without one
 * would only be in the way of the next `serve`.
 */
import "../common/compile-cache.ts";

import type { Config } from "../common/config/load.ts";
import { closeAndExit, reportFailure, startUnlessEnded } from "./lifetime.ts";
import type { ChildMessage, SupervisorMessage } from "./messages.ts";
import { loadService } from "./services.ts";

const [name = "", module = "", start = ""] = process.argv.slice(2);
process.title = `sockerless-${name}`;

const configured = Promise.withResolvers<Config>();
const stopped = Promise.withResolvers<void>();
const ending = new AbortController();
const stop = (): void => {
  ending.abort();
  stopped.resolve();
};

process.on("message", (message: SupervisorMessage) => {
  switch (message.type) {
    case "serve":
      configured.resolve(message.config);
      break;
    case "stop":
      stop();
      break;
  }
});
process.on("disconnect", stop);
process.on("SIGTERM", stop);
// Ctrl-C at a terminal reaches every process of the group; the supervisor decides the order in which they end.
process.on("SIGINT", () => {});
process.on("SIGHUP", () => {});

try {
  await run();
} catch (error) {
  reportFailure(name, error);
  process.exit(1);
}

async function run(): Promise<void> {
  const startService = await loadService({ name, module, start });
  const config = await Promise.race([configured.promise, stopped.promise]);
  if (config === undefined) {
    process.disconnect?.();
    return;
  }
  const service = await startUnlessEnded(startService, config, ending.signal);
  const ready: ChildMessage = {
    type: "ready",
    ...(service.addresses === undefined ? {} : { addresses: service.addresses }),
  };
  // Without a callback a supervisor that just died would be an uncaught error instead of a "disconnect".
  if (!ending.signal.aborted) {
    process.send?.(ready, undefined, undefined, () => {});
  }
  await stopped.promise;
  if (process.connected) {
    process.disconnect?.();
  }
  await closeAndExit(name, service);
}
