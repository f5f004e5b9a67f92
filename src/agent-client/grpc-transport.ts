/** The library's gRPC calls over our connections: to agents, the host process and the backend. */
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from "node:http2";

import type { DescService } from "@bufbuild/protobuf";
import { ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, type GrpcTransportOptions as LibraryOptions } from "@connectrpc/connect-node";

import { errorOfReset } from "./grpc-status.ts";
import { namingRequest } from "./naming-request.ts";
import { readInWholeMessages } from "./whole-messages.ts";

/** The library's interface for opening streams. */
export type Sessions = NonNullable<LibraryOptions["sessionManager"]>;

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

const losses = new WeakSet<Error>();

/**
 * True if a call's stream was lost before the response was complete, so that it may or may not have been carried out.
 */
export function isLost(error: unknown): boolean {
  return error instanceof Error && losses.has(error);
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
    sessionManager: {
      authority: sessions.authority,
      request: async (method, path, ...rest) => {
        const stream = await sessions.request(method, path, ...rest);
        const output = untrusted?.methods.find(({ name }) => path.endsWith(`/${name}`))?.output;
        return readInWholeMessages(reportingLoss(stream, peer), readMaxBytes, output);
      },
      notifyResponseByteRead: (stream) => {
        sessions.notifyResponseByteRead(stream);
        if (stream.readableEnded && !stream.writableEnded) {
          stream.close(constants.NGHTTP2_CANCEL); // Nothing reads the rest of the request, which would keep the stream open.
        }
      },
    },
    interceptors: [...interceptors, namingRequest],
    acceptCompression: [],
    readMaxBytes,
  });
}

/**
 * Makes the library see an error if a stream ends without a status. By itself it reads a cut stream in several ways,
 * for example as a conflict, or as a response still to come; Node ends it like a complete one. A failed write is
 * reported before the stream's error.
 */
function reportingLoss(stream: ClientHttp2Stream, peer: string): ClientHttp2Stream {
  let isOver: boolean = false;
  const noteStatus = (headers: IncomingHttpHeaders): void => {
    isOver ||= headers["grpc-status"] !== undefined;
  };
  const resetCode = (): number => stream.rstCode ?? constants.NGHTTP2_NO_ERROR;
  const fail = (error?: Error): void => {
    if (!isOver) {
      isOver = true;
      const reset = errorOfReset(resetCode(), peer);
      const loss = error instanceof ConnectError ? error : reset;
      losses.add(loss);
      stream.emit("error", loss);
    }
  };
  stream.on("response", noteStatus).on("trailers", noteStatus).on("error", fail);
  stream.once("end", () => fail()).once("close", () => fail());
  const write = stream.write.bind(stream);
  return Object.assign(stream, {
    write: (bytes: Uint8Array, encoding: BufferEncoding, written: (error?: Error | null) => void): boolean =>
      write(bytes, encoding, (error) => {
        if (error instanceof Error && resetCode() !== constants.NGHTTP2_NO_ERROR) {
          fail(error); // Without a reset code the response may have arrived before the whole request was read.
        }
        written(error);
      }),
  });
}
