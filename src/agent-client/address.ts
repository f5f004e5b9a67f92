/** Where an agent is dialled and with which credentials. Plain data: it crosses threads. */

/** Where an agent listens. The relay and the agent of stored containers are dialled the same way. */
export type AgentAddress =
  | { readonly kind: "unix"; readonly path: string }
  | {
      readonly kind: "tcp";
      readonly host: string;
      readonly port: number;
      /** SHA-256 of the server certificate's SubjectPublicKeyInfo. */
      readonly pin: Uint8Array;
    }
  | {
      /** A backend that relays, on another machine: known by its name and an authority. */
      readonly kind: "relay";
      readonly host: string;
      readonly port: number;
      /** Certificates of the authority, PEM. */
      readonly authority: string;
    };

/** What a client shows to an agent that demands mutual TLS. PEM texts. */
export interface ClientCredentials {
  readonly key: string;
  /** The certificate, then those that lead to the agent's pinned authority. */
  readonly certificateChain: string;
}

/** Everything that dialling takes. */
export interface DialTarget {
  readonly address: AgentAddress;
  /** Required for `tcp` and `relay`, unused for `unix`. */
  readonly credentials?: ClientCredentials | undefined;
  /** Full ID, sent with every call: an agent that serves several containers needs it, others ignore it. */
  readonly containerId?: string | undefined;
}

/** Credentials that expire: asked for whenever a connection is opened. */
export type CredentialsProvider = () => Promise<ClientCredentials>;

/** A target of connections that are opened again and again, and so not plain data. */
export type AgentTarget = Omit<DialTarget, "credentials"> & {
  readonly credentials?: ClientCredentials | CredentialsProvider | undefined;
};

/** The metadata key that names the container at a relay. */
export const containerIdHeader = "sockerless-container-id";

/** The address for a log line or an error message. */
export function describeAddress(address: AgentAddress): string {
  return address.kind === "unix" ? address.path : `${address.host}:${address.port}`;
}
