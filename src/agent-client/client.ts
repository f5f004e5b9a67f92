/** The agent's typed calls, over gRPC: everything but the bulk streams. */
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import {
  type AgentAddress,
  type ClientCredentials,
  containerIdHeader,
  type CredentialsProvider,
} from "./address.ts";
import { AgentConnection } from "./connection.ts";
import { callUnary, type UnaryCalls } from "./unary-call.ts";
import { readInWholeMessages } from "./whole-messages.ts";
import { AgentService } from "../gen/sockerless/agent/v1/agent_pb.ts";

/** An agent is not trusted: no message of its is read beyond this. A state with many ended execs is the largest. */
const readMaxBytes = 4 * 1024 * 1024;

/** What may be said about a client beside the address. */
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
 *
 * @param address structurally the `AgentAddress` of the driver contract
 */
export function createAgentClient(address: AgentAddress, options: AgentClientOptions = {}): AgentClient {
  const connection = new AgentConnection({ address, ...options });
  const transport = createGrpcTransport({
    baseUrl: connection.authority,
    sessionManager: {
      authority: connection.authority,
      request: async (...request) => readInWholeMessages(await connection.request(...request), readMaxBytes),
      notifyResponseByteRead: () => connection.notifyResponseByteRead(),
    },
    interceptors: options.containerId === undefined ? [] : [nameContainer(options.containerId)],
    acceptCompression: [],
    readMaxBytes,
  });
  const { containerId } = options;
  const short = withUnaryByHand(transport, { connection, containerId, readMaxBytes });
  return { client: createClient(AgentService, short), close: () => connection.close() };
}

/** A transport whose unary calls are made by hand, but for those with headers of their own. */
function withUnaryByHand(transport: Transport, calls: UnaryCalls): Transport {
  return {
    stream: (...call) => transport.stream(...call),
    unary: async (method, signal, timeoutMs, header, input, contextValues) =>
      header === undefined
        ? {
            stream: false,
            service: method.parent,
            method,
            header: new Headers(),
            trailer: new Headers(),
            message: await callUnary(calls, method, input, { signal, timeoutMs }),
          }
        : await transport.unary(method, signal, timeoutMs, header, input, contextValues),
  };
}

function nameContainer(containerId: string): Interceptor {
  return (next) => (request) => {
    request.header.set(containerIdHeader, containerId);
    return next(request);
  };
}
