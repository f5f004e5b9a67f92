/**
 * A child of the supervisor: `child.js NAME MODULE EXPORT`. It loads its code at once and serves when it receives the
 * configuration. It ends on request, or when the supervisor has ended: a frontend or backend without a supervisor would
 * only block the next `serve`. It does not use the cache of compiled code, which Node keeps in memory for the life of
 * the process: 2 MB, to save some 20 ms at its start.
 */
import type { SendHandle } from "node:child_process";
import type { Server, Socket } from "node:net";

import { systemError } from "../common/errors.ts";
import type { BuilderRequest, HeldSocket } from "../common/held-sockets.ts";
import type { LogLevel } from "../common/config/load.ts";
import { type Logger, processLogger } from "../common/logger.ts";
import type { RunningService } from "../common/running-service.ts";
import { handleOf } from "../common/socket-handle.ts";
import { giveMemoryBackAfterWork, giveMemoryBackOnceSettled } from "./give-memory-back.ts";
import { ExecSlots, unknownCuts } from "./exec-slots.ts";
import { closeAndExit, reloadService, startUnlessEnded } from "./lifetime.ts";
import { reportFailure } from "./report-failure.ts";
import type { BuilderMessage, ChildMessage, SupervisorMessage } from "./messages.ts";
import { loadService } from "./services.ts";

type ServeMessage = Extract<SupervisorMessage, { readonly type: "serve" }>;

const [name = "", module = "", start = ""] = process.argv.slice(2);
process.title = `sockerless-${name}`;

const configured = Promise.withResolvers<ServeMessage>();
const stopped = Promise.withResolvers<void>();
const ending = new AbortController();
let running: RunningService | undefined;
let ownLogger: Logger | undefined;
const builderRequests = new Map<number, (message: BuilderMessage) => void>();
let lastBuilderRequest = 0;
const stop = (): void => {
  ending.abort();
  stopped.resolve();
};

process.on("message", (message: SupervisorMessage) => {
  switch (message.type) {
    case "serve":
      configured.resolve(message);
      break;
    case "reload":
      void reload(message.logLevel);
      break;
    case "stop":
      stop();
      break;
    case "builder":
      builderRequests.get(message.request)?.(message);
      break;
  }
});
process.on("disconnect", stop);
process.on("SIGTERM", stop);
// A terminal signals the whole process group; the supervisor decides what ends, and in which order.
process.on("SIGINT", () => {});
process.on("SIGHUP", () => {});

try {
  await run();
} catch (error) {
  reportFailure(name, error);
  process.exit(1);
}

async function run(): Promise<void> {
  const startService = await loadService({ module, start });
  const asked = await Promise.race([configured.promise, stopped.promise]);
  if (asked === undefined) {
    process.disconnect?.();
    return;
  }
  const slots = execSlotsOf(asked);
  const logger = loggerOf(asked);
  const service = await startUnlessEnded(startService, asked.config, ending.signal, logger, {
    inherited: asked.sockets,
    hold: holdSocket,
    cutExecs: asked.cutExecs,
    streamingExec: (execId) => slots?.streaming(execId),
    startBuilder,
  });
  running = service;
  const ready: ChildMessage = {
    type: "ready",
    ...(service.addresses === undefined ? {} : { addresses: service.addresses }),
  };
  if (!ending.signal.aborted) {
    send(ready);
    giveMemoryBackOnceSettled();
    giveMemoryBackAfterWork();
  }
  await stopped.promise;
  if (process.connected) {
    process.disconnect?.();
  }
  await closeAndExit(service, logger);
}

function loggerOf({ config }: ServeMessage): Logger {
  ownLogger ??= processLogger(config, name);
  return ownLogger;
}

function execSlotsOf(asked: ServeMessage): ExecSlots | undefined {
  const { execSlots } = asked;
  return execSlots === undefined
    ? undefined
    : new ExecSlots(execSlots, (error) => loggerOf(asked).warn({ err: error }, unknownCuts));
}

async function reload(logLevel: LogLevel | undefined): Promise<void> {
  await reloadService(running, loggerOf(await configured.promise), logLevel);
  send({ type: "reloaded" });
}

function startBuilder({ onlyIfUsed, onCompile }: BuilderRequest): Promise<string | undefined> {
  const request = ++lastBuilderRequest;
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>();
  builderRequests.set(request, ({ state, text }) => {
    switch (state) {
      case "compiling":
        onCompile?.();
        return;
      case "ready":
        resolve(text);
        break;
      case "unused":
        resolve(undefined);
        break;
      case "failed":
        reject(systemError(text));
        break;
    }
    builderRequests.delete(request);
  });
  send({ type: "builder", request, onlyIfUsed });
  return promise;
}

function send(message: ChildMessage, handle?: SendHandle): void {
  // Without a callback, a supervisor that has just died would cause an uncaught error instead of a "disconnect".
  process.send?.(message, handle, undefined, () => {});
}

/** Gives the supervisor a copy of the descriptor, which it keeps open without serving it. */
function holdSocket(socket: HeldSocket, listener: Server | Socket): void {
  send({ type: "listens", socket }, handleOf(listener));
}
