/** The whole contract between the backend and the thread that has its TCP port. */
import type { DialTarget } from "../../../agent-client/address.ts";
import type { ErrorData } from "../../../common/errors.ts";
import type { HeldSocket, InheritedSocket } from "../../../common/held-sockets.ts";
import type { MutualTls } from "../../../common/listen.ts";
import type { StrangerNews } from "../../../common/strangers.ts";

/** Settings of the thread. Plain data. */
export interface PortSettings {
  /** `tcp://address:port` */
  readonly listen: string;
  readonly tls: MutualTls;
  /** Unix socket at which the backend's main thread answers what no agent does. */
  readonly path: string;
  /** Listening sockets of an earlier process. */
  readonly inherited: readonly InheritedSocket[];
}

/** Messages to the thread. */
export type ToPort =
  /** Answers `resolve`. Neither target nor error: there is no such container. */
  | {
      readonly kind: "resolved";
      readonly id: number;
      readonly target?: DialTarget | undefined;
      readonly error?: ErrorData;
    }
  /** Connections that stand keep theirs. */
  | { readonly kind: "tls"; readonly tls: MutualTls }
  /** Ends the thread, once the calls under way have ended or the time for it is over. */
  | { readonly kind: "close" };

/** Messages of the thread. */
export type FromPort =
  /** A socket that was not inherited is listened on, by a descriptor that stays the thread's. */
  | { readonly kind: "listens"; readonly socket: HeldSocket; readonly descriptor: number }
  | { readonly kind: "listening"; readonly address: string }
  /** The address cannot be had; the thread ends. */
  | { readonly kind: "failed"; readonly error: ErrorData }
  /** Asks how the agent of a container is dialled. */
  | { readonly kind: "resolve"; readonly id: number; readonly containerId: string }
  | StrangerNews;
