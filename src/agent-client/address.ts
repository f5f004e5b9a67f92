/**
 * The way to an agent, and the credentials for it: one type for the backend that names it, the frontend, its workers and
 * the relay. Plain data: it crosses threads.
 */
import { isIPv6 } from "node:net";

/** An agent, or the one of stored containers, on this machine. */
export interface SocketAddress {
  readonly kind: "unix";
  readonly path: string;
}

/** An agent on a network. */
export interface NetworkAddress {
  readonly kind: "tcp";
  readonly host: string;
  readonly port: number;
  /** SHA-256 of the server certificate's SubjectPublicKeyInfo. */
  readonly pin: Uint8Array;
}

/** An agent that nobody can dial and that calls its backend, whose relay joins the two. */
export interface CalledAddress {
  readonly kind: "called";
  /** Unix socket of the relay (docs/formats.md). */
  readonly path: string;
  /** As {@link NetworkAddress.pin}: the agent that is meant, among all that call. */
  readonly pin: Uint8Array;
}

/** A backend that relays, on another machine: known by its name and an authority. */
export interface RelayAddress {
  readonly kind: "relay";
  readonly host: string;
  readonly port: number;
  /** Certificates of the authority, PEM. */
  readonly authority: string;
}

/** The way from a backend's process to an agent of its own. */
export type AgentAddress = SocketAddress | NetworkAddress | CalledAddress;

/**
 * The way to an agent from anywhere. All of these are dialled; a way of another kind is a further member, and every
 * `switch` over `kind` has to say what it does with it: `dial`, `describeAddress`, the pool's key, the endpoint.
 */
export type AgentWay = AgentAddress | RelayAddress;

/** Key and certificates that a client shows to an agent that demands mutual TLS. PEM texts. */
export interface ClientCredentials {
  readonly key: string;
  /** The certificate, then those that lead to the agent's pinned authority. */
  readonly certificateChain: string;
}

/** The address, the credentials and the container that dialling takes. */
export interface DialTarget {
  readonly address: AgentWay;
  /** Required for all but `unix`. */
  readonly credentials?: ClientCredentials | undefined;
  /** Full ID, sent with every call: `called` and an agent that serves several containers need it, others ignore it. */
  readonly containerId?: string | undefined;
  /** Name of the server there in error messages; undefined: {@link agentPeer}. */
  readonly peer?: string | undefined;
}

/** Name of the server at an address in error messages, unless a target has another. */
export const agentPeer = "the agent";

/** Credentials that expire: asked for whenever a connection is opened. Undefined: the agent asks for none. */
export type CredentialsProvider = () => Promise<ClientCredentials | undefined>;

/** A target of connections that are opened again and again, and so not plain data. */
export type AgentTarget = Omit<DialTarget, "credentials"> & {
  readonly credentials?: ClientCredentials | CredentialsProvider | undefined;
};

/** The metadata key that names the container at a relay. */
export const containerIdHeader = "sockerless-container-id";

/** The address for a log line or an error message. */
export function describeAddress(address: AgentWay): string {
  switch (address.kind) {
    case "unix":
      return address.path;
    case "called":
      return `${address.path} (${Buffer.from(address.pin).toString("hex").slice(0, 16)})`;
    case "tcp":
    case "relay":
      return `${isIPv6(address.host) ? `[${address.host}]` : address.host}:${address.port}`;
  }
}
