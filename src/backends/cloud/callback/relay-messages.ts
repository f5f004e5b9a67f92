/** The whole contract between the backend and the thread in which connections of agents that call are joined. */
import type { StrangerNews } from "../../../common/strangers.ts";

/** Settings of the thread. Plain data. */
export interface RelaySettings {
  /** `tcp://address:port` for agents; `[::]`: all addresses, of IPv4 too. */
  readonly listen: string;
  /** Key of the listener's TLS, PEM. Agents do not look at its certificate: what counts is the TLS inside. */
  readonly key: string;
  readonly certificate: string;
  /** Unix socket for those who want an agent. */
  readonly path: string;
  /** Name of this instance in the paths that agents call: 16 hexadecimal digits. */
  readonly instance: string;
}

/** An agent, as it has shown itself. */
export interface Caller {
  readonly containerId: string;
  /** SHA-256 of its SubjectPublicKeyInfo, hexadecimal. It has shown that it has the key; nothing else is known of it. */
  readonly pin: string;
}

/** Other agents with which one may have connections. */
export interface Grant {
  /** As {@link Caller.pin}: the agent that may. */
  readonly pin: string;
  readonly others: readonly Caller[];
}

/** Messages to the thread. */
export type ToRelay =
  | { readonly kind: "doubt" | "refuse"; readonly caller: Caller }
  /** Replaces what a container's agent may; undefined: nothing. */
  | { readonly kind: "allow"; readonly containerId: string; readonly grant: Grant | undefined }
  | { readonly kind: "close" };

/** Messages of the thread. */
export type FromRelay =
  | { readonly kind: "listening"; readonly address: string }
  /** A connection of an agent waits. */
  | { readonly kind: "called"; readonly caller: Caller }
  /** None of its connections is there any more. */
  | { readonly kind: "left"; readonly caller: Caller }
  | StrangerNews;
