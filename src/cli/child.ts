/**
 * A process that the supervisor made: `child.js NAME MODULE EXPORT`. It loads its code at once, serves when it is told
 * the configuration, and ends when it is told to or when the supervisor is gone: a frontend or backend without one
 * would only be in the way of the next `serve`. It does without the cache of compiled code, which Node keeps in memory
 * for as long as the process lives: 2 MB, for some 20 ms of its start.
 */
import type { SendHandle } from "node:child_process";
import type { Server, Socket } from "node:net";

import { systemError } from "../common/errors.ts";
import type { BuilderRequest, HeldSocket } from "../common/held-sockets.ts";
import { processLogger } from "../common/logger.ts";
import type { RunningService } from "../common/running-service.ts";
import { handleOf } from "../common/socket-handle.ts";
import { giveMemoryBackAfterWork, giveMemoryBackOnceSettled } from "./give-memory-back.ts";
import { ExecSlots, unknownCuts } from "./exec-slots.ts";
import { closeAndExit, reloadService, reportFailure, startUnlessEnded } from "./lifetime.ts";
import type { BuilderMessage, ChildMessage, SupervisorMessage } from "./messages.ts";
import { loadService } from "./services.ts";

type ServeMessage = Extract<SupervisorMessage, { readonly type: "serve" }>;

const [name = "", module = "", start = ""] = process.argv.slice(2);
process.title = `sockerless-${name}`;

const configured = Promise.withResolvers<ServeMessage>();
const stopped = Promise.withResolvers<void>();
const ending = new AbortController();
let running: RunningService | undefined;
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
      void reload();
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
// Signals of a terminal reach the whole group; the supervisor decides what is done, and in which order.
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
  const logger = processLogger(asked.config, name);
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
    tell(ready);
    giveMemoryBackOnceSettled();
    giveMemoryBackAfterWork();
  }
  await stopped.promise;
  if (process.connected) {
    process.disconnect?.();
  }
  await closeAndExit(service, logger);
}

function execSlotsOf({ execSlots, config }: ServeMessage): ExecSlots | undefined {
  return execSlots === undefined
    ? undefined
    : new ExecSlots(execSlots, (error) => processLogger(config, name).warn({ err: error }, unknownCuts));
}

async function reload(): Promise<void> {
  const { config } = await configured.promise;
  await reloadService(running, processLogger(config, name));
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
  tell({ type: "builder", request, onlyIfUsed });
  return promise;
}

function tell(message: ChildMessage, handle?: SendHandle): void {
  // Without a callback a supervisor that just died would be an uncaught error instead of a "disconnect".
  process.send?.(message, handle, undefined, () => {});
}

/** Gives the supervisor a copy of the descriptor, which it keeps and does not serve. */
function holdSocket(socket: HeldSocket, listener: Server | Socket): void {
  tell({ type: "listens", socket }, handleOf(listener));
}
