/** Messages between the processes of `serve` over IPC channels. */
import type { Config, LogLevel } from "../common/config/load.ts";
import type { HeldSocket, InheritedSocket } from "../common/held-sockets.ts";

/** Sent by the process that has read the configuration of `serve`. */
export interface ConfigMessage {
  readonly config: Config;
  /** True if the daemon runs in the background. */
  readonly isDetached: boolean;
}

/** Sent by a daemon in the background to the process that waits for it: it serves. */
export interface ServesMessage {
  /** For the user to paste; absent if the daemon has no address. */
  readonly line?: string;
}

/** From the supervisor to a child. */
export type SupervisorMessage =
  /** Begin to serve. The code is loaded before this arrives, so that processes start in parallel. */
  | {
      readonly type: "serve";
      readonly config: Config;
      readonly sockets: readonly InheritedSocket[];
      readonly cutExecs: readonly string[];
      /** Descriptor of the slots where the child records the execs that it streams; absent if nothing reads them. */
      readonly execSlots?: number;
    }
  /** Reload the certificates, and log from this level on; undefined: as before. */
  | { readonly type: "reload"; readonly logLevel: LogLevel | undefined }
  /** Close and exit. */
  | { readonly type: "stop" }
  | BuilderMessage;

/** The outcome of a request for the builder. */
export interface BuilderMessage {
  readonly type: "builder";
  readonly request: number;
  readonly state: "compiling" | "ready" | "unused" | "failed";
  /** The socket's path if it is ready, or the reason if it failed. */
  readonly text: string;
}

/** From a child to the supervisor. */
export type ChildMessage =
  /** A socket that the child listens on, sent with the message. */
  | { readonly type: "listens"; readonly socket: HeldSocket }
  /** It needs the builder. */
  | { readonly type: "builder"; readonly request: number; readonly onlyIfUsed: boolean }
  /** It has answered a request to reload. */
  | { readonly type: "reloaded" }
  | ReadyMessage;

/** The child serves. */
export interface ReadyMessage {
  readonly type: "ready";
  /** The addresses it listens on, if it reports them. */
  readonly addresses?: readonly string[];
}
