/** The backend's TCP port, from the main thread: it starts the port's thread and resolves agents for it. */
import { Socket } from "node:net";
import { Worker } from "node:worker_threads";

import type { DialTarget } from "../../../agent-client/address.ts";
import type { TlsFiles } from "../../../common/config/load.ts";
import { SockerlessError, toErrorData } from "../../../common/errors.ts";
import type { HeldSockets } from "../../../common/held-sockets.ts";
import { type MutualTls, readMutualTls, reloadCertificates } from "../../../common/listen.ts";
import type { Logger } from "../../../common/logger.ts";
import { logStrangers } from "../../../common/strangers.ts";
import type { AgentResolver } from "../relay.ts";
import type { FromPort, PortSettings, ToPort } from "./port-messages.ts";

/** Settings of a {@link TcpPort}. */
export interface TcpPortOptions {
  /** `tcp://address:port` */
  readonly address: string;
  readonly files: TlsFiles;
  /** Unix socket where the backend answers calls not meant for agents. */
  readonly path: string;
  /** Sockets held by the supervisor. */
  readonly sockets: HeldSockets | undefined;
  readonly resolveAgent: AgentResolver;
  readonly logger: Logger;
}

/** A port for frontends on other machines. A failure of its thread ends the process. */
export class TcpPort {
  /** Address in use: `tcp://address:port`, with the actual port in place of 0. */
  readonly address: string;
  readonly #thread: Worker;
  readonly #files: TlsFiles;
  #lastId = 0;

  /**
   * Starts listening.
   *
   * @throws SockerlessError that names an unusable certificate; `conflict` if another process has the address
   */
  static async open(options: TcpPortOptions): Promise<TcpPort> {
    const settings: PortSettings = {
      listen: options.address,
      tls: await readMutualTls(options.files),
      path: options.path,
      inherited: options.sockets?.inherited ?? [],
    };
    const thread = new Worker(new URL("./port-thread.js", import.meta.url), { workerData: settings });
    const listening = Promise.withResolvers<string>();
    thread.once("error", listening.reject);
    thread.on("message", (message: FromPort) => void handleMessage(thread, options, message, listening));
    const address = await listening.promise;
    thread.off("error", listening.reject); // From here on an error of the thread is unhandled, and ends the process.
    return new TcpPort(address, thread, options.files);
  }

  private constructor(address: string, thread: Worker, files: TlsFiles) {
    this.address = address;
    this.#thread = thread;
    this.#files = files;
  }

  /** As {@link RunningService.reload}. */
  reload(): Promise<string> {
    return reloadCertificates([{ setCertificates: (tls) => this.#setCertificates(tls) }], this.#files);
  }

  async #setCertificates(tls: MutualTls): Promise<void> {
    const id = ++this.#lastId;
    const set = Promise.withResolvers<void>();
    const take = (message: FromPort): void => {
      if (message.kind === "tls-set" && message.id === id) {
        const { error } = message;
        if (error === undefined) {
          set.resolve();
        } else {
          set.reject(new SockerlessError(error.kind, error.message));
        }
      }
    };
    this.#thread.on("message", take);
    this.#post({ kind: "tls", id, tls });
    try {
      await set.promise;
    } finally {
      this.#thread.off("message", take);
    }
  }

  /** Stops accepting, lets current calls finish for a bounded time, then cuts them. */
  async close(): Promise<void> {
    const ended = new Promise((resolve) => void this.#thread.once("exit", resolve));
    this.#post({ kind: "close" });
    await ended;
  }

  #post(message: ToPort): void {
    this.#thread.postMessage(message);
  }
}

/** Sockets on the thread's descriptors. Never closed here: the thread does that, and the process ends soon after it. */
const held: Socket[] = [];

async function handleMessage(
  thread: Worker,
  { sockets, resolveAgent, logger }: TcpPortOptions,
  message: FromPort,
  listening: PromiseWithResolvers<string>,
): Promise<void> {
  switch (message.kind) {
    case "listens":
      if (sockets !== undefined) {
        const socket = new Socket({ fd: message.descriptor, readable: false, writable: false });
        held.push(socket);
        sockets.hold(message.socket, socket);
      }
      break;
    case "listening":
      listening.resolve(message.address);
      break;
    case "failed":
      listening.reject(new SockerlessError(message.error.kind, message.error.message));
      break;
    case "resolve":
      thread.postMessage(await answerOf(message.id, () => targetOf(message.containerId, resolveAgent)));
      break;
    case "log":
      logger[message.level](message.values, message.message);
      break;
    case "tls-set":
      break; // For who has sent the certificates.
    case "turned-away":
    case "hung-up":
      logStrangers(logger, message);
      break;
  }
}

async function answerOf(id: number, resolve: () => Promise<DialTarget | undefined>): Promise<ToPort> {
  try {
    return { kind: "resolved", id, target: await resolve() };
  } catch (error) {
    return { kind: "resolved", id, error: toErrorData(error) };
  }
}

/** Resolves a container's agent to plain data. */
async function targetOf(containerId: string, resolveAgent: AgentResolver): Promise<DialTarget | undefined> {
  const target = await resolveAgent(containerId);
  if (target === undefined) {
    return undefined;
  }
  const { credentials } = target;
  return { ...target, credentials: typeof credentials === "function" ? await credentials() : credentials };
}
