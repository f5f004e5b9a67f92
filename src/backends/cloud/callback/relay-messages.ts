/** The contract between the backend and the thread that joins callback agents' connections. */
import type { LogLine } from "../../../common/process-log.ts";
import type { StrangerNews } from "../../../common/strangers.ts";

/** Settings of the thread. Plain data. */
export interface RelaySettings {
  /** `tcp://address:port` for agents; `[::]`: all addresses, of IPv4 too. */
  readonly listen: string;
  /** Key of the listener's TLS, PEM. Agents do not verify its certificate: only the inner TLS counts. */
  readonly key: string;
  readonly certificate: string;
  /** Unix socket for clients of agents. */
  readonly path: string;
  /** Name of this instance in the paths that agents call: 16 hexadecimal digits. */
  readonly instance: string;
  /** Key of the instance's call tokens. */
  readonly callKey: Uint8Array;
}

/** An agent with a proven key. */
export interface Caller {
  readonly containerId: string;
  /** SHA-256 of its SubjectPublicKeyInfo, hexadecimal. Only possession of the key is proven. */
  readonly pin: string;
}

/** An agent that waits. */
export interface Calling extends Caller {
  /** The start whose token it has shown; undefined if it has shown none. */
  readonly start: bigint | undefined;
}

/** Agents that an agent may connect to. */
export interface Grant {
  /** Like {@link Caller.pin}: the agent with these rights. */
  readonly pin: string;
  readonly others: readonly Caller[];
}

/** Messages to the thread. */
export type ToRelay =
  | { readonly kind: "refuse"; readonly caller: Caller }
  /** Replaces the rights of a container's agent; undefined revokes all. */
  | { readonly kind: "allow"; readonly containerId: string; readonly grant: Grant | undefined }
  | { readonly kind: "close" };

/** Messages of the thread. */
export type FromRelay =
  | { readonly kind: "listening"; readonly address: string }
  /** A connection of an agent is waiting. */
  | { readonly kind: "called"; readonly caller: Calling }
  /** All of its connections are closed. */
  | { readonly kind: "left"; readonly caller: Caller }
  | LogLine
  | StrangerNews;
