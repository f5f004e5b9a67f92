/**
 * Unary calls of the backend in the Connect protocol, which costs the library half of gRPC's processor time. Its messages
 * have no frames: a request or response is complete if it is as long as its header says. A GET has its request in the
 * header, which spares the library a body at both ends: a tenth of the call's processor time.
 */
import type { ClientHttp2Stream } from "node:http2";

import { create, toBinary } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";

import type { GrpcTransportOptions } from "../../agent-client/grpc-transport.ts";
import { pendingResponse, preparingStreams, type Sessions } from "../../agent-client/lost-streams.ts";
import { namingRequest } from "../../agent-client/naming-request.ts";

/** As `grpcTransport`, for unary calls; a cut response fails alike. */
export function unaryTransport(
  sessions: Sessions,
  { peer, interceptors = [] }: Pick<GrpcTransportOptions, "peer" | "interceptors">,
): Pick<Transport, "unary"> {
  const options = {
    httpVersion: "2" as const,
    baseUrl: sessions.authority,
    sessionManager: preparingStreams(sessions, (stream) => readWhole(stream, peer)),
    acceptCompression: [],
  };
  const calls = [...interceptors, namingRequest];
  const gets = createConnectTransport({ ...options, interceptors: calls, useHttpGet: true });
  const posts = createConnectTransport({ ...options, interceptors: [...calls, announcingLength] });
  return {
    unary: async (method, signal, timeoutMs, header, input, contextValues) => {
      const request = create(method.input, input);
      const isGet =
        method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS &&
        toBinary(method.input, request).length <= mostInHeader;
      const call = (by: Transport) => by.unary(method, signal, timeoutMs, header, request, contextValues);
      try {
        return await call(isGet ? gets : posts);
      } catch (error) {
        if (isGet && error instanceof ConnectError && error.rawMessage === getRefused) {
          return await call(posts);
        }
        throw error;
      }
    },
  };
}

/** The error of a backend of an earlier version, which does not know the call as one without side effects. */
const getRefused = "HTTP 405";

/** The most bytes of a request in a header, which Node limits to 64 KiB by default. */
const mostInHeader = 8 * 1024;

/** Tells the server how long the request is: Node ends a cut one like a complete one. */
const announcingLength: Interceptor = (next) => (request) => {
  if (!request.stream) {
    request.header.set("content-length", String(toBinary(request.method.input, request.message).length));
  }
  return next(request);
};

/** Makes the library see an error if a response ends before its announced length. */
function readWhole(stream: ClientHttp2Stream, peer: string): ClientHttp2Stream {
  const response = pendingResponse(stream, peer);
  const write = stream.write.bind(stream);
  Object.assign(stream, {
    write: (...body: Parameters<typeof write>): boolean => {
      const hasRoom = write(...body);
      stream.end(); // Ended at once, so that END_STREAM goes with the last frame of the body.
      return hasRoom;
    },
  });
  let leftBytes = Number.NaN;
  stream.on("response", (headers) => {
    leftBytes = Number(headers["content-length"]);
  });
  // Unlike on(), this does not begin to read.
  stream.prependListener("data", (chunk: Buffer) => {
    leftBytes -= chunk.length;
  });
  stream.once("end", () => (leftBytes === 0 ? response.complete() : response.lose()));
  return stream.once("close", response.lose);
}
