/**
 * Runs each service in its own process: starts them in order, restarts them after a crash, and ends them in reverse
 * order. It keeps their listening sockets open, so that clients which connect during a restart wait. It does nothing
 * else, and no container depends on it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

import { endOf, hasExited, RestartPauses, untilExit } from "../common/child-processes.ts";
import type { Config, LogLevel } from "../common/config/load.ts";
import { messageOf, systemError } from "../common/errors.ts";
import type { KeptSocket } from "../common/held-sockets.ts";
import { onAbort } from "../common/on-abort.ts";
import type { LineLogger } from "../common/process-log.ts";
import type { SocketHandle } from "../common/socket-handle.ts";
import { BuilderProcess } from "./builder-process.ts";
import { CutExecs, unknownCuts } from "./exec-slots.ts";
import type { BuilderMessage, ChildMessage, ReadyMessage, SupervisorMessage } from "./messages.ts";
import type { Service } from "./services.ts";

/** Time after which a child that was asked to end is killed; longer than the child's own limit. */
const stopLimitMs = 30_000;

/** A child's descriptor for its exec slots, after standard input, output and error and the IPC channel. */
const execSlotsDescriptor = 4;

/** A child's first descriptor for listening sockets. */
const firstSocketDescriptor = 5;

/**
 * Node switches of each child. Under load V8's young generation takes a little more than twice this size: a smaller one
 * costs CPU time when busy, a larger one brought no measurable gain (docs/performance.md).
 */
const nodeSwitches = [
  "--disable-sigusr1",
  "--enable-source-maps",
  "--expose-gc",
  "--max-semi-space-size=8",
] as const;

/** A running set of services. */
export interface Supervised {
  /** The addresses that each service reported, by service name. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  /**
   * Makes all services reload their certificates, and log from a level on (undefined: as before); resolves when each has,
   * or has ended.
   */
  reload(logLevel: LogLevel | undefined): Promise<void>;
  /** Ends all services in reverse order. */
  stop(): Promise<void>;
  /** Kills all services. */
  kill(): void;
}

/**
 * Starts services, each once the one before it is ready (their code loads in parallel). From then on crashed services
 * are restarted.
 *
 * @param services in order of dependency
 * @param activated sockets that the frontend serves, open before it starts
 * @throws SockerlessError if one ends before it is ready; the others are ended first
 */
export async function supervise(
  services: readonly Service[],
  config: Config,
  logger: LineLogger,
  signal: AbortSignal,
  activated: readonly KeptSocket[] = [],
): Promise<Supervised> {
  const builder = new BuilderProcess(config, logger);
  const children = services.map(
    (service) => new Child(service, config, logger, builder, service.streamsExecs ? activated : []),
  );
  const stop = async (): Promise<void> => {
    await builder.stop();
    for (const child of children.toReversed()) {
      await child.stop();
    }
  };
  const kill = (): void => {
    builder.kill();
    for (const child of children) {
      child.kill();
    }
  };
  const addresses = new Map<string, readonly string[]>();
  const ended = Promise.withResolvers<never>();
  ended.promise.catch(() => undefined);
  using _ending = onAbort(signal, () => ended.reject(signal.reason));
  try {
    for (const child of children) {
      signal.throwIfAborted();
      const serving = child.serve();
      serving.catch(() => undefined); // Rejects if the child is stopped before it serves.
      const ready = await Promise.race([serving, ended.promise]);
      addresses.set(child.name, ready.addresses ?? []);
    }
    signal.throwIfAborted();
  } catch (error) {
    await stop();
    throw error;
  }
  for (const child of children) {
    child.keepRunning();
  }
  builder.resume();
  const reload = async (logLevel: LogLevel | undefined): Promise<void> => {
    await Promise.all(children.map((child) => child.reload(logLevel)));
  };
  return { addresses, reload, stop, kill };
}

/** A service's process, and its successors after crashes. */
class Child {
  readonly name: string;
  readonly #service: Service;
  #config: Config;
  readonly #logger: LineLogger;
  readonly #builder: BuilderProcess;
  readonly #sockets = new Map<string, KeptSocket>();
  readonly #cutExecs: CutExecs | undefined;
  #process: ChildProcess;
  readonly #pauses = new RestartPauses();
  #restarting: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(
    service: Service,
    config: Config,
    logger: LineLogger,
    builder: BuilderProcess,
    activated: readonly KeptSocket[],
  ) {
    for (const each of activated) {
      this.#sockets.set(each.socket.address, each);
    }
    this.name = service.name;
    this.#service = service;
    this.#config = config;
    this.#logger = logger;
    this.#builder = builder;
    this.#cutExecs = service.streamsExecs
      ? new CutExecs((error) => logger.warn({ err: error }, unknownCuts))
      : undefined;
    this.#process = this.#spawn();
  }

  /** Makes the process serve, and waits until it does. */
  async serve(): Promise<ReadyMessage> {
    const child = this.#process;
    const outcome = Promise.withResolvers<ReadyMessage>();
    const onExit = (): void => outcome.reject(systemError(`the ${this.name} did not start`));
    child.on("message", (message: ChildMessage) => {
      if (message.type === "ready") {
        outcome.resolve(message);
      }
    });
    child.once("exit", onExit);
    child.once("error", (error) => outcome.reject(systemError(`the ${this.name} did not start`, error)));
    if (hasExited(child)) {
      onExit();
    }
    this.#sendServe();
    const ready = await outcome.promise;
    child.off("exit", onExit);
    return ready;
  }

  /** Restarts the process from now on when it ends by itself. */
  keepRunning(): void {
    const child = this.#process;
    const onExit = (): void => this.#restartLater(endOf(child));
    if (hasExited(child)) {
      onExit();
    } else {
      child.once("exit", onExit);
    }
  }

  /** Asks the process to end, and kills it if it does not. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restarting);
    for (const { handle } of this.#sockets.values()) {
      handle.close(); // Refuses new clients instead of letting them wait.
    }
    this.#sockets.clear();
    const child = this.#process;
    if (hasExited(child)) {
      return;
    }
    this.#send({ type: "stop" });
    const limit = setTimeout(() => {
      this.#logger.warn({ service: this.name }, "does not end, killing it");
      child.kill("SIGKILL");
    }, stopLimitMs);
    await untilExit(child);
    clearTimeout(limit);
  }

  async reload(logLevel: LogLevel | undefined): Promise<void> {
    this.#config = { ...this.#config, logLevel: logLevel ?? this.#config.logLevel };
    const child = this.#process;
    if (!child.connected) {
      return;
    }
    const done = Promise.withResolvers<void>();
    const onMessage = ({ type }: ChildMessage): void => (type === "reloaded" ? done.resolve() : undefined);
    child.on("message", onMessage).once("disconnect", done.resolve);
    this.#send({ type: "reload", logLevel });
    await done.promise;
    child.off("message", onMessage).off("disconnect", done.resolve);
  }

  kill(): void {
    this.#stopping = true;
    this.#process.kill("SIGKILL");
  }

  #spawn(): ChildProcess {
    const { name, module, start, switches } = this.#service;
    const entry = fileURLToPath(new URL("./child.js", import.meta.url));
    const child = fork(entry, [name, module, start], {
      execArgv: [...nodeSwitches, ...switches],
      stdio: [
        "ignore",
        "inherit",
        "inherit",
        "ipc",
        this.#cutExecs?.renewSlots() ?? "ignore",
        ...[...this.#sockets.values()].map(({ handle }) => handle.fd),
      ],
    });
    child.on("message", (message: ChildMessage, handle: SocketHandle | undefined) => {
      if (message.type === "listens" && handle !== undefined) {
        this.#hold({ socket: message.socket, handle });
      } else if (message.type === "builder") {
        void this.#startBuilder(message.request, message.onlyIfUsed);
      }
    });
    // A failed message to a child that has just died needs no handling: its "exit" event follows.
    child.on("error", (error) => {
      const level = child.pid === undefined ? "error" : "debug";
      this.#logger[level]({ err: error, service: name }, "child process");
    });
    return child;
  }

  #sendServe(): void {
    const sockets = [...this.#sockets.values()].map(({ socket }, index) => ({
      ...socket,
      descriptor: firstSocketDescriptor + index,
    }));
    this.#send({
      type: "serve",
      config: this.#config,
      sockets,
      cutExecs: this.#cutExecs?.ids ?? [],
      ...(this.#cutExecs?.hasSlots ? { execSlots: execSlotsDescriptor } : {}),
    });
  }

  async #startBuilder(request: number, onlyIfUsed: boolean): Promise<void> {
    const answer = (state: BuilderMessage["state"], text = ""): void =>
      this.#send({ type: "builder", request, state, text });
    try {
      const socket = await this.#builder.start(onlyIfUsed, () => answer("compiling"));
      answer(socket === undefined ? "unused" : "ready", socket);
    } catch (error) {
      this.#logger.error({ err: error }, "the builder does not start");
      answer("failed", messageOf(error));
    }
  }

  #hold(kept: KeptSocket): void {
    if (this.#stopping) {
      kept.handle.close();
      return;
    }
    const { address } = kept.socket;
    this.#sockets.get(address)?.handle.close();
    this.#sockets.set(address, kept);
  }

  #send(message: SupervisorMessage): void {
    if (this.#process.connected) {
      this.#process.send(message, () => {});
    }
  }

  #restartLater(reason: string): void {
    if (this.#stopping) {
      return;
    }
    const delayMs = this.#pauses.crashed();
    this.#logger.error({ service: this.name, reason, delayMs }, "ended unexpectedly, starting it again");
    this.#restarting = setTimeout(() => {
      this.#pauses.started();
      try {
        this.#process = this.#spawn();
      } catch (error) {
        this.#restartLater(messageOf(error)); // Node throws some errors and emits others as an event.
        return;
      }
      this.#sendServe();
      this.keepRunning();
    }, delayMs);
  }
}
