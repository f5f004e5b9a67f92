/** The agent's typed gRPC calls: everything but the bulk streams. */
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";

import {
  type AgentWay,
  type ClientCredentials,
  containerIdHeader,
  type CredentialsProvider,
} from "./address.ts";
import { AgentConnection } from "./connection.ts";
import { grpcTransport } from "./grpc-transport.ts";
import { AgentService } from "../gen/sockerless/agent/v1/agent_pb.ts";

/** Size limit for a message, as an agent is not trusted; the largest is a state with many ended execs. */
const maxMessageBytes = 4 * 1024 * 1024;

/** Window of each call in bytes: messages are read as they come, and a window may hold a frame for each byte. */
export const usualWindow = 256 * 1024;

/** Settings of a client besides the address. */
export interface AgentClientOptions {
  /** Required for `tcp` addresses. */
  readonly credentials?: ClientCredentials | CredentialsProvider | undefined;
  /** Full ID; required if the address serves several containers (the relay, the server of stopped containers). */
  readonly containerId?: string | undefined;
  /** Size limit in bytes for a message; default: 4 MiB. A larger one fails the call with `ResourceExhausted`. */
  readonly readMaxBytes?: number;
}

/** A typed client and its own connection. */
export interface AgentClient {
  readonly client: Client<typeof AgentService>;
  /** Ends every call, including watches, with an error; closing again is harmless. */
  close(): void;
}

/**
 * Creates a client of one agent. It dials at the first call, and redials at the next call after a lost connection.
 * Calls throw `ConnectError`: `Unavailable` if the agent cannot be reached.
 */
export function createAgentClient(address: AgentWay, options: AgentClientOptions = {}): AgentClient {
  const connection = new AgentConnection({ address, ...options }, { window: usualWindow });
  return { client: agentClientOver(connection, options), close: () => connection.close() };
}

/**
 * Creates a typed client over a connection that others use, too, and which stays theirs to close.
 *
 * @param ended ends its calls
 */
export function agentClientOver(
  connection: AgentConnection,
  { containerId, readMaxBytes = maxMessageBytes }: Pick<AgentClientOptions, "containerId" | "readMaxBytes">,
  ended?: AbortSignal,
): AgentClient["client"] {
  const interceptors = [
    ...(containerId === undefined ? [] : [nameContainer(containerId)]),
    ...(ended === undefined ? [] : [endWith(ended)]),
  ];
  const transport = grpcTransport(connection, {
    peer: connection.peer,
    readMaxBytes,
    untrusted: AgentService,
    interceptors,
  });
  return createClient(AgentService, transport);
}

function endWith(ended: AbortSignal): Interceptor {
  return (next) => (request) => {
    const signal = AbortSignal.any([request.signal, ended]);
    return next(request.stream ? { ...request, signal } : { ...request, signal });
  };
}

function nameContainer(containerId: string): Interceptor {
  return (next) => (request) => {
    request.header.set(containerIdHeader, containerId);
    return next(request);
  };
}
