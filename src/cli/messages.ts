/** Messages of the processes of `serve` over IPC channels. */
import type { Config } from "../common/config/load.ts";
import type { HeldSocket, InheritedSocket } from "../common/held-sockets.ts";

/** From the process that has read the configuration of `serve`. */
export interface ConfigMessage {
  readonly config: Config;
  /** True if the daemon is to run in the background. */
  readonly isDetached: boolean;
}

/** From a daemon in the background to the process that waits for it: it serves. */
export interface ServesMessage {
  /** For its user, to paste: none of a daemon that has no address. */
  readonly line?: string;
}

/** From the supervisor to a child. */
export type SupervisorMessage =
  /** Begin to serve. The code is loaded before this comes, so that processes start side by side. */
  | {
      readonly type: "serve";
      readonly config: Config;
      readonly sockets: readonly InheritedSocket[];
      readonly cutExecs: readonly string[];
      /** Descriptor of the slots in which it writes what execs it streams; absent: nobody looks. */
      readonly execSlots?: number;
    }
  /** Read the certificates again. */
  | { readonly type: "reload" }
  /** Close and exit. */
  | { readonly type: "stop" }
  | BuilderMessage;

/** The outcome of a request for the builder. */
export interface BuilderMessage {
  readonly type: "builder";
  readonly request: number;
  readonly state: "compiling" | "ready" | "unused" | "failed";
  /** The socket's path of one that is ready, or why it failed. */
  readonly text: string;
}

/** From a child to the supervisor. */
export type ChildMessage =
  /** It listens; the socket comes with the message. */
  | { readonly type: "listens"; readonly socket: HeldSocket }
  /** It needs the builder. */
  | { readonly type: "builder"; readonly request: number; readonly onlyIfUsed: boolean }
  | ReadyMessage;

/** The child serves. */
export interface ReadyMessage {
  readonly type: "ready";
  /** The addresses it listens on, where it told them. */
  readonly addresses?: readonly string[];
}
