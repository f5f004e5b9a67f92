/** The agent's typed calls, over gRPC: everything but the bulk streams. */
import { constants } from "node:http2";

import {
  type Client,
  type ConnectError,
  createClient,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import {
  type AgentWay,
  type ClientCredentials,
  containerIdHeader,
  type CredentialsProvider,
} from "./address.ts";
import { AgentConnection } from "./connection.ts";
import { errorOfReset, errorOfStream } from "./grpc-status.ts";
import { namingRequest } from "./naming-request.ts";
import { unaryByHand, type UnaryCalls } from "./unary-call.ts";
import { readInWholeMessages } from "./whole-messages.ts";
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
  /** A transport of the library. @param unanswered told when a stream closes before its answer has begun */
  const transportOf = (unanswered: (error: ConnectError) => void): Transport =>
    createGrpcTransport({
      baseUrl: connection.authority,
      sessionManager: {
        authority: connection.authority,
        request: async (...request) => {
          const stream = await connection.request(...request);
          const close = (): void => unanswered(errorOfReset(stream.rstCode ?? constants.NGHTTP2_NO_ERROR));
          stream.once("close", close).once("response", () => stream.off("close", close));
          return readInWholeMessages(stream, readMaxBytes);
        },
        notifyResponseByteRead: () => connection.notifyResponseByteRead(),
      },
      interceptors: [namingRequest, ...(containerId === undefined ? [] : [nameContainer(containerId)])],
      acceptCompression: [],
      readMaxBytes,
    });
  const short = withUnaryByHand(transportOf, { connection, containerId, readMaxBytes });
  return { client: createClient(AgentService, short), close: () => connection.close() };
}

/** A transport whose unary calls are made by hand, but for those with headers of their own. */
function withUnaryByHand(
  transportOf: (unanswered: (error: ConnectError) => void) => Transport,
  calls: UnaryCalls,
): Transport {
  return {
    stream: async (...call) => {
      const [, signal] = call;
      // The caller of a signal knows its reason itself.
      const toldError = (error: unknown): unknown =>
        signal?.aborted === true ? error : errorOfStream(error);
      // The library would wait for ever for the answer of a stream that the agent's end has closed.
      const unanswered = Promise.withResolvers<never>();
      try {
        const answered = transportOf(unanswered.reject).stream(...call);
        const answer = await Promise.race([answered, unanswered.promise]);
        return { ...answer, message: withErrors(answer.message, toldError) };
      } catch (error) {
        throw toldError(error);
      }
    },
    unary: unaryByHand(
      transportOf(() => {}),
      calls,
    ),
  };
}

async function* withErrors<T>(
  messages: AsyncIterable<T>,
  toldError: (error: unknown) => unknown,
): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toldError(error);
  }
}

function nameContainer(containerId: string): Interceptor {
  return (next) => (request) => {
    request.header.set(containerIdHeader, containerId);
    return next(request);
  };
}
