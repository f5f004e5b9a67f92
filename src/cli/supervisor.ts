/**
 * Runs services as processes of their own: starts them in order, starts again what crashes, and ends them in the
 * reverse order. Nothing else: no container depends on this process.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import type { Config } from "../common/config/load.ts";
import { systemError } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import type { ChildMessage, SupervisorMessage } from "./messages.ts";
import type { Service } from "./services.ts";

/** How long a child may take to end before it is killed; longer than the child's own limit. */
const stopLimitMs = 30_000;

/** A child that has run this long is no longer held to its earlier crashes. */
const stableAfterMs = 60_000;

/** How long to wait before a child is started again, after so many crashes in a row. */
export function restartDelayMs(crashes: number): number {
  return Math.min(100 * 2 ** (crashes - 1), 10_000);
}

/** A running set of services. */
export interface Supervised {
  /** The addresses that each service told, by the service's name. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  /** Ends all services, the last first. */
  stop(): Promise<void>;
  /** Ends all services without asking. */
  kill(): void;
}

/**
 * Starts services, each once the one before it is ready (their code is loaded side by side). From then on a crashed one
 * is started again.
 *
 * @param services in the order in which they depend on each other
 * @throws SockerlessError when one ends before it is ready; the others are ended first
 */
export async function supervise(
  services: readonly Service[],
  config: Config,
  logger: Logger,
  signal: AbortSignal,
): Promise<Supervised> {
  const children = services.map((service) => new Child(service, config, logger));
  const stop = async (): Promise<void> => {
    for (const child of children.toReversed()) {
      await child.stop();
    }
  };
  const kill = (): void => {
    for (const child of children) {
      child.kill();
    }
  };
  const addresses = new Map<string, readonly string[]>();
  const ended = Promise.withResolvers<never>();
  ended.promise.catch(() => undefined);
  signal.addEventListener("abort", () => ended.reject(signal.reason), { once: true });
  try {
    for (const child of children) {
      signal.throwIfAborted();
      const serving = child.serve();
      serving.catch(() => undefined); // One that is told to end meanwhile did not start.
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
  return { addresses, stop, kill };
}

/** One service's process, and the processes that come after it when it crashes. */
class Child {
  readonly name: string;
  readonly #service: Service;
  readonly #config: Config;
  readonly #logger: Logger;
  #process: ChildProcess;
  #startedAt = Date.now();
  #crashes = 0;
  #restarting: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(service: Service, config: Config, logger: Logger) {
    this.name = service.name;
    this.#service = service;
    this.#config = config;
    this.#logger = logger;
    this.#process = this.#spawn();
  }

  /** Tells the process to serve, and waits until it does. */
  async serve(): Promise<ChildMessage> {
    const child = this.#process;
    const outcome = Promise.withResolvers<ChildMessage>();
    const onExit = (): void => outcome.reject(systemError(`the ${this.name} did not start`));
    child.once("message", (message: ChildMessage) => outcome.resolve(message));
    child.once("exit", onExit);
    child.once("error", (error) => outcome.reject(systemError(`the ${this.name} did not start`, error)));
    if (hasExited(child)) {
      onExit();
    }
    this.#send({ type: "serve", config: this.#config });
    const ready = await outcome.promise;
    child.off("exit", onExit);
    return ready;
  }

  /** From now on the process is started again when it ends by itself. */
  keepRunning(): void {
    const child = this.#process;
    const onExit = (): void => this.#restartLater(child.signalCode ?? `exit code ${child.exitCode}`);
    if (hasExited(child)) {
      onExit();
    } else {
      child.once("exit", onExit);
    }
  }

  /** Asks the process to end, and kills it when it does not. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#restarting);
    const child = this.#process;
    if (hasExited(child)) {
      return;
    }
    const exited = once(child, "exit");
    this.#send({ type: "stop" });
    const limit = setTimeout(() => {
      this.#logger.warn({ service: this.name }, "does not end, killing it");
      child.kill("SIGKILL");
    }, stopLimitMs);
    await exited;
    clearTimeout(limit);
  }

  kill(): void {
    this.#stopping = true;
    this.#process.kill("SIGKILL");
  }

  #spawn(): ChildProcess {
    const { name, module, start } = this.#service;
    const entry = fileURLToPath(new URL("./child.js", import.meta.url));
    const child = fork(entry, [name, module, start], {
      execArgv: ["--enable-source-maps"],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    // A message to a child that has just died is no news: its "exit" tells.
    child.on("error", (error) => this.#logger.debug({ err: error, service: name }, "child process"));
    return child;
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
    this.#crashes = Date.now() - this.#startedAt > stableAfterMs ? 1 : this.#crashes + 1;
    const delayMs = restartDelayMs(this.#crashes);
    this.#logger.error({ service: this.name, reason, delayMs }, "ended unexpectedly, starting it again");
    this.#restarting = setTimeout(() => {
      this.#startedAt = Date.now();
      this.#process = this.#spawn();
      this.#send({ type: "serve", config: this.#config });
      this.keepRunning();
    }, delayMs);
  }
}

function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
