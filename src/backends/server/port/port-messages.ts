/** The complete contract between the backend and its TCP thread. */
import type { DialTarget } from "../../../agent-client/address.ts";
import type { ErrorData } from "../../../common/errors.ts";
import type { HeldSocket, InheritedSocket } from "../../../common/held-sockets.ts";
import type { MutualTls } from "../../../common/listen.ts";
import type { LogLine } from "../../../common/process-log.ts";
import type { StrangerNews } from "../../../common/strangers.ts";

/** Settings of the thread. Plain data. */
export interface PortSettings {
  /** `tcp://address:port` */
  readonly listen: string;
  readonly tls: MutualTls;
  /** Unix socket where the backend's main thread answers calls not meant for agents. */
  readonly path: string;
  /** Listening sockets of an earlier process. */
  readonly inherited: readonly InheritedSocket[];
}

/** Messages to the thread. */
export type ToPort =
  /** Answers `resolve`; without target and error there is no such container. */
  | {
      readonly kind: "resolved";
      readonly id: number;
      readonly target?: DialTarget | undefined;
      readonly error?: ErrorData;
    }
  /** New certificates; open connections keep theirs. Answered by `tls-set`. */
  | { readonly kind: "tls"; readonly id: number; readonly tls: MutualTls }
  /** Ends the thread once current calls have finished or their time is over. */
  | { readonly kind: "close" };

/** Messages from the thread. */
export type FromPort =
  /** A new socket that the thread listens on; the thread keeps the descriptor. */
  | { readonly kind: "listens"; readonly socket: HeldSocket; readonly descriptor: number }
  | { readonly kind: "listening"; readonly address: string }
  /** The address is not available; the thread ends. */
  | { readonly kind: "failed"; readonly error: ErrorData }
  /** Asks for the address of a container's agent. */
  | { readonly kind: "resolve"; readonly id: number; readonly containerId: string }
  | { readonly kind: "tls-set"; readonly id: number; readonly error?: ErrorData }
  | LogLine
  | StrangerNews;
