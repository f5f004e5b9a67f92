/** The library's gRPC calls over our connections: to agents, the host process and the backend. */
import type { ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";

import type { DescService } from "@bufbuild/protobuf";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { pendingResponse, preparingStreams, type Sessions } from "./lost-streams.ts";
import { namingRequest } from "./naming-request.ts";
import { readInWholeMessages } from "./whole-messages.ts";

export interface GrpcTransportOptions {
  /** The server's name in error messages. */
  readonly peer: string;
  /** Size limit for a response message; a larger one is refused. Undefined: the library's limit. */
  readonly readMaxBytes?: number;
  /** The service of an untrusted server: what its messages cost is bounded. */
  readonly untrusted?: DescService;
  /** Outermost first. */
  readonly interceptors?: readonly Interceptor[];
}

/** The library's default size limit for a message. */
const mostBytes = 0xffff_ffff;

/**
 * A transport over a session manager's connections. Calls carry the current request's ID. A response is complete only
 * with its status: a cut one fails with `Unavailable`, or with the code of {@link errorOfReset}.
 */
export function grpcTransport(
  sessions: Sessions,
  { peer, readMaxBytes = mostBytes, untrusted, interceptors = [] }: GrpcTransportOptions,
): Transport {
  return createGrpcTransport({
    baseUrl: sessions.authority,
    sessionManager: preparingStreams(sessions, (stream, path) => {
      const output = untrusted?.methods.find(({ name }) => path.endsWith(`/${name}`))?.output;
      return readInWholeMessages(reportingLoss(stream, peer), readMaxBytes, output);
    }),
    interceptors: [...interceptors, namingRequest],
    acceptCompression: [],
    readMaxBytes,
    // Parts of messages are kept, in records too: what no field has would be kept with them, megabytes of it.
    binaryOptions: { readUnknownFields: untrusted === undefined },
  });
}

/**
 * Makes the library see an error if a stream ends without a status. By itself it reads a cut stream in several ways,
 * for example as a conflict, or as a response still to come; Node ends it like a complete one.
 */
function reportingLoss(stream: ClientHttp2Stream, peer: string): ClientHttp2Stream {
  const response = pendingResponse(stream, peer);
  const noteStatus = (headers: IncomingHttpHeaders): void => {
    if (headers["grpc-status"] !== undefined) {
      response.complete();
    }
  };
  stream.on("response", noteStatus).on("trailers", noteStatus);
  return stream.once("end", response.lose).once("close", response.lose);
}
