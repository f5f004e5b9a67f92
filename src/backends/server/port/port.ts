/** The backend's TCP port, as the backend has it: a thread, which asks where agents are. */
import { Socket } from "node:net";
import { Worker } from "node:worker_threads";

import type { DialTarget } from "../../../agent-client/address.ts";
import type { TlsFiles } from "../../../common/config/load.ts";
import { SockerlessError, toErrorData } from "../../../common/errors.ts";
import type { HeldSockets } from "../../../common/held-sockets.ts";
import { mutualTlsOptions, reloadCertificates, type TlsListener } from "../../../common/listen.ts";
import type { Logger } from "../../../common/logger.ts";
import { logStrangers } from "../../../common/strangers.ts";
import type { AgentResolver } from "../relay.ts";
import type { FromPort, PortSettings, ToPort } from "./port-messages.ts";

/** Settings of a {@link TcpPort}. */
export interface TcpPortOptions {
  /** `tcp://address:port` */
  readonly address: string;
  readonly files: TlsFiles;
  /** Unix socket at which the backend answers what no agent does. */
  readonly path: string;
  /** The supervisor's. */
  readonly sockets: HeldSockets | undefined;
  readonly resolveAgent: AgentResolver;
  readonly logger: Logger;
}

/** A port that frontends on other machines call. A failure of its thread ends the process. */
export class TcpPort {
  /** Address at which it listens: `tcp://address:port`, with the port that was chosen where 0 was asked for. */
  readonly address: string;
  readonly #thread: Worker;
  readonly #files: TlsFiles;

  /**
   * Listens.
   *
   * @throws SockerlessError that names the certificate which cannot be used; `conflict`: another process has the address
   */
  static async open(options: TcpPortOptions): Promise<TcpPort> {
    const settings: PortSettings = {
      listen: options.address,
      tls: await mutualTlsOptions(options.files),
      path: options.path,
      inherited: options.sockets?.inherited ?? [],
    };
    const thread = new Worker(new URL("./port-thread.js", import.meta.url), { workerData: settings });
    const listening = Promise.withResolvers<string>();
    thread.once("error", listening.reject);
    thread.on("message", (message: FromPort) => void hear(thread, options, message, listening));
    const address = await listening.promise;
    thread.off("error", listening.reject); // From here on nobody hears of one, so that it is the process's.
    return new TcpPort(address, thread, options.files);
  }

  private constructor(address: string, thread: Worker, files: TlsFiles) {
    this.address = address;
    this.#thread = thread;
    this.#files = files;
  }

  /** As {@link RunningService.reload}. */
  reload(): Promise<string> {
    const port: TlsListener = { setSecureContext: (tls) => this.#tell({ kind: "tls", tls }) };
    return reloadCertificates([port], this.#files);
  }

  /** Stops accepting, lets calls under way end for a bounded time, then cuts them. */
  async close(): Promise<void> {
    const ended = new Promise((resolve) => void this.#thread.once("exit", resolve));
    this.#tell({ kind: "close" });
    await ended;
  }

  #tell(message: ToPort): void {
    this.#thread.postMessage(message);
  }
}

/** Sockets of the thread's descriptors, never closed: that is for the thread to do, and the process ends soon after it. */
const held: Socket[] = [];

async function hear(
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

/** Target of a container's agent, as plain data. */
async function targetOf(containerId: string, resolveAgent: AgentResolver): Promise<DialTarget | undefined> {
  const target = await resolveAgent(containerId);
  if (target === undefined) {
    return undefined;
  }
  const { credentials } = target;
  return { ...target, credentials: typeof credentials === "function" ? await credentials() : credentials };
}
