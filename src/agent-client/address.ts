/**
 * The address of an agent and the credentials for it: one type for the backend, the frontend, its workers and the
 * relay. Plain data, sent across threads.
 */
import { isIPv6 } from "node:net";

/** An agent on this machine, or the server of stopped containers' files and logs. */
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

/** An agent that cannot be dialled: it calls its backend, whose relay connects it to its clients. */
export interface CalledAddress {
  readonly kind: "called";
  /** Unix socket of the relay (docs/formats.md). */
  readonly path: string;
  /** Like {@link NetworkAddress.pin}; identifies this agent among all that call. */
  readonly pin: Uint8Array;
}

/** A relaying backend on another machine, known by its name and an authority. */
export interface RelayAddress {
  readonly kind: "relay";
  readonly host: string;
  readonly port: number;
  /** Certificates of the authority, PEM. */
  readonly authority: string;
}

/** The address at which a backend's process reaches one of its agents. */
export type AgentAddress = SocketAddress | NetworkAddress | CalledAddress;

/**
 * The address at which any process reaches an agent. All of these are dialled; a new kind becomes a further member, to
 * be handled by every `switch` over `kind`: `dial`, `describeAddress`, the pool's key, the endpoint.
 */
export type AgentWay = AgentAddress | RelayAddress;

/** A client's key and certificates, in PEM, for an agent that requires mutual TLS. */
export interface ClientCredentials {
  readonly key: string;
  /** The certificate, followed by the chain to the agent's pinned authority. */
  readonly certificateChain: string;
}

/** Everything needed to dial: address, credentials, container. */
export interface DialTarget {
  readonly address: AgentWay;
  /** Required for all but `unix`. */
  readonly credentials?: ClientCredentials | undefined;
  /**
   * Full ID, sent with every call; required for `called` and for an agent that serves several containers, ignored by
   * others.
   */
  readonly containerId?: string | undefined;
  /** The server's name in error messages; default {@link agentPeer}. */
  readonly peer?: string | undefined;
}

/** The server's default name in error messages. */
export const agentPeer = "the agent";

/** Provides credentials that expire; called for each new connection. Undefined if the agent requires none. */
export type CredentialsProvider = () => Promise<ClientCredentials | undefined>;

/** A target of connections that are opened repeatedly, and therefore not plain data. */
export type AgentTarget = Omit<DialTarget, "credentials"> & {
  readonly credentials?: ClientCredentials | CredentialsProvider | undefined;
};

/** The metadata key with the container's ID, for a relay. */
export const containerIdHeader = "sockerless-container-id";

/**
 * The metadata key by which a tunnel says that it carries datagrams: its input is read at once or dropped, so that it may
 * share a connection with others.
 */
export const datagramsHeader = "sockerless-datagrams";

/** Formats an address for a log line or an error message. */
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
