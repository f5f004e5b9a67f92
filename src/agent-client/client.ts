/** The agent's typed calls, over gRPC: everything but the bulk streams. */
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

/**
 * The most bytes of one message, as an agent is not trusted; a state with many ended execs is the largest.
 */
const readMaxBytes = 4 * 1024 * 1024;

/** Settings of a client beside the address. */
export interface AgentClientOptions {
  /** Required for `tcp` addresses. */
  readonly credentials?: ClientCredentials | CredentialsProvider | undefined;
  /** Full ID; required where the address serves several containers (the relay, the agent of stored ones). */
  readonly containerId?: string | undefined;
}

/** A typed client and the connection that it owns. */
export interface AgentClient {
  readonly client: Client<typeof AgentService>;
  /** Ends every call, watches too, with an error. May be called again. */
  close(): void;
}

/**
 * A client of one agent. Nothing is dialled before the first call; a lost connection is dialled again by the next
 * call. Calls throw `ConnectError`: `Unavailable` when the agent cannot be reached.
 */
export function createAgentClient(address: AgentWay, options: AgentClientOptions = {}): AgentClient {
  const connection = new AgentConnection({ address, ...options });
  const { containerId } = options;
  const interceptors = containerId === undefined ? [] : [nameContainer(containerId)];
  const transport = grpcTransport(connection, { peer: connection.peer, readMaxBytes, interceptors });
  return { client: createClient(AgentService, transport), close: () => connection.close() };
}

function nameContainer(containerId: string): Interceptor {
  return (next) => (request) => {
    request.header.set(containerIdHeader, containerId);
    return next(request);
  };
}
