/**
 * A program of ours that runs beside this process as its child and is spoken to over Node's IPC channel, by which it can
 * be passed connections. It is started again whenever it ends, after a pause.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Socket } from "node:net";

import { endOf, RestartPauses } from "./child-processes.ts";
import { messageOf } from "./errors.ts";
import { type LineLogger, ProcessLog } from "./process-log.ts";
import type { SocketHandle } from "./socket-handle.ts";

/** Calls of a {@link ChannelProcess}. */
export interface ChannelEvents<Message> {
  /** It runs, for the first time or again. */
  readonly started: () => void;
  /** @param handle of a socket that came with the message, as of a {@link Socket} */
  readonly told: (message: Message, handle: SocketHandle | undefined) => void;
  /** It has ended, or left its channel; nothing more comes of it. */
  readonly ended: (reason: string) => void;
}

/** The process, by its program's mode. */
export class ChannelProcess<Message> {
  readonly #program: string;
  readonly #mode: string;
  readonly #name: string;
  readonly #logger: LineLogger;
  readonly #log: ProcessLog;
  readonly #events: ChannelEvents<Message>;
  #process: ChildProcess | undefined;
  readonly #pauses = new RestartPauses();
  #restarting: NodeJS.Timeout | undefined;
  #isClosed = false;
  #isRetired = false;

  /**
   * Starts nothing yet.
   *
   * @param name of the process, in the log
   */
  constructor(
    { program, mode, name }: { readonly program: string; readonly mode: string; readonly name: string },
    logger: LineLogger,
    events: ChannelEvents<Message>,
  ) {
    this.#program = program;
    this.#mode = mode;
    this.#name = name;
    this.#logger = logger;
    this.#log = new ProcessLog(logger, name);
    this.#events = events;
  }

  /** True while it can be told something. */
  get isReady(): boolean {
    return this.#process?.connected === true && !this.#isClosed;
  }

  /** Sends a message. @param sent called once it is in the channel; not if the process ends before that */
  send(message: object, handle?: SocketHandle, sent: (error: Error | null) => void = () => {}): void {
    this.#process?.send(message, handle, undefined, sent);
  }

  /** Sends a message after which it may end: it is not started again. */
  retire(last: object): void {
    this.send(last);
    this.#isRetired = true;
  }

  /** Leaves it to itself: closes its channel, and does not start it again. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#restarting);
    if (this.#process?.connected === true) {
      this.#process.disconnect();
    }
  }

  start(): void {
    this.#pauses.started();
    // In a session of its own: it may have connections to serve when a terminal's Ctrl-C ends this process.
    let started: ChildProcess;
    try {
      started = spawn(this.#program, [this.#mode], {
        stdio: ["ignore", "ignore", "pipe", "ipc"],
        detached: true,
      });
    } catch (error) {
      this.#ended(messageOf(error)); // Node throws some errors and emits others as an event.
      return;
    }
    started.on("error", (error) => {
      this.#logger.debug({ err: error }, this.#name);
      if (started.pid === undefined) {
        this.#ended(messageOf(error));
      }
    });
    if (started.pid === undefined) {
      return;
    }
    this.#process = started;
    this.#events.started();
    started.unref();
    started.channel?.unref();
    if (started.stderr instanceof Socket) {
      started.stderr.unref();
      this.#log.follow(started.stderr);
    }
    started.on("message", (message, handle: SocketHandle | undefined) => {
      if (this.#process === started) {
        this.#events.told(message as Message, handle);
      }
    });
    // It may hold clients for long without reading our messages.
    started.once("disconnect", () => {
      if (!this.#isClosed) {
        this.#lost(started, "it has left its channel");
      }
    });
    started.once("close", () => this.#lost(started, endOf(started)));
  }

  #lost(process: ChildProcess, reason: string): void {
    if (this.#process === process) {
      this.#ended(reason);
    } else {
      this.#logger.debug({ reason }, `a former ${this.#name} has ended`);
    }
  }

  #ended(reason: string): void {
    this.#process = undefined;
    this.#events.ended(reason);
    if (this.#isClosed || this.#isRetired) {
      return;
    }
    this.#logger.warn({ reason }, `the ${this.#name} has ended: starting it again`);
    this.#restarting = setTimeout(() => this.start(), this.#pauses.crashed()).unref();
  }
}
