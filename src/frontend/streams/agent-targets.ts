/** Converts the endpoint of a backend's answer to a target that a worker dials. */
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { urlToHttpOptions } from "node:url";

import type { MessageInitShape } from "@bufbuild/protobuf";

import type { ClientCredentials, DialTarget } from "../../agent-client/address.ts";
import { type AgentClient, agentClientOver, usualWindow } from "../../agent-client/client.ts";
import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { wayTo } from "../../agent-client/endpoint.ts";
import type { TlsFiles } from "../../common/config/load.ts";
import { systemError } from "../../common/errors.ts";
import {
  type AgentAccessSchema,
  type AgentEndpoint,
  AgentReach,
} from "../../gen/sockerless/backend/v1/endpoint_pb.ts";

/** Size limit in bytes for a message that is one reading of a container's usage, one changed path or a path's metadata. */
const smallMessageBytes = 65_536;

/** How the frontend reaches its backend; for each connection as it is then. */
export interface BackendReach {
  /** `unix:///path` or `https://host:port`. */
  readonly address: string;
  /** PEM; required for `https`. */
  tls?: {
    readonly authority: string;
    readonly certificate: string;
    readonly key: string;
    /** Their files, for error messages. */
    readonly files: TlsFiles;
  };
}

/** Targets that the frontend can dial, with its credentials towards agents. */
export class AgentTargets {
  readonly #backend: BackendReach;
  /** Shared by calls: thousands may be made at once, and a TLS handshake takes this thread milliseconds. */
  readonly #connections = new ConnectionPool(usualWindow, false);
  /** For agents over TLS, PEM; the backend signs a certificate for it per endpoint. */
  readonly #key: string;
  /** The public key and the reach that every call for an endpoint carries. */
  readonly access: MessageInitShape<typeof AgentAccessSchema>;

  constructor(backend: BackendReach) {
    this.#backend = backend;
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.#key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    this.access = {
      // A frontend that shares a socket with the backend shares its machine: it reaches the agents' sockets
      // and networks.
      reach: relayOf(backend).address.kind === "unix" ? AgentReach.LOCAL : AgentReach.RELAY,
      clientPublicKey: publicKey.export({ type: "spki", format: "der" }),
    };
  }

  /** @throws SockerlessError of kind `system` for an endpoint that names no address */
  targetOf(endpoint: AgentEndpoint | undefined): DialTarget {
    const relay = relayOf(this.#backend);
    const address = wayTo(endpoint, relay.address);
    const containerId = endpoint?.containerId;
    switch (endpoint?.address.case) {
      case "tcp":
      case "called":
        return { address, containerId, credentials: this.#credentials(endpoint.clientCertificates) };
      case "relay":
        return { ...relay, containerId };
      default:
        return { address, containerId };
    }
  }

  /**
   * Creates a client for calls whose answers are small messages; the caller closes it.
   *
   * @throws as {@link targetOf}
   */
  clientOf(endpoint: AgentEndpoint | undefined): AgentClient {
    const target = this.targetOf(endpoint);
    const { connection, leave } = this.#connections.borrow(target);
    const ended = new AbortController();
    const close = (): void => {
      ended.abort();
      leave();
    };
    const options = { containerId: target.containerId, readMaxBytes: smallMessageBytes };
    return { client: agentClientOver(connection, options, ended.signal), close };
  }

  #credentials(certificates: readonly Uint8Array[]): ClientCredentials {
    return {
      key: this.#key,
      certificateChain: certificates.map((der) => new X509Certificate(der).toString()).join(""),
    };
  }
}

/** Host, without the brackets of an IPv6 address, and port of a backend's address, a URL. */
export function hostAndPortOf(address: string): { readonly host: string; readonly port: number } {
  const { hostname, port } = urlToHttpOptions(new URL(address));
  return { host: hostname ?? "", port: Number(port ?? 443) };
}

function relayOf({ address, tls }: BackendReach): Pick<DialTarget, "address" | "credentials"> {
  if (address.startsWith("unix://")) {
    return { address: { kind: "unix", path: address.slice("unix://".length) } };
  }
  if (tls === undefined) {
    throw systemError(`the backend at ${address} demands a client certificate and there is none`);
  }
  return {
    address: { kind: "relay", ...hostAndPortOf(address), authority: tls.authority },
    credentials: { key: tls.key, certificateChain: tls.certificate },
  };
}
