/** Calls of gRPC by the library, over connections of ours: to agents, the host process and the backend. */
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from "node:http2";

import { ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, type GrpcTransportOptions as LibraryOptions } from "@connectrpc/connect-node";

import { errorOfReset } from "./grpc-status.ts";
import { namingRequest } from "./naming-request.ts";
import { readInWholeMessages } from "./whole-messages.ts";

/** Connections, as the library asks them for streams. */
type Sessions = NonNullable<LibraryOptions["sessionManager"]>;

/** Settings of a transport. */
export interface GrpcTransportOptions {
  /** Name of the server in error messages. */
  readonly peer: string;
  /** The most bytes of an answer's message; a larger one is refused. Undefined: as many as the library takes. */
  readonly readMaxBytes?: number;
  /** Outermost first. */
  readonly interceptors?: readonly Interceptor[];
}

const losses = new WeakSet<Error>();

/** Whether a call failed because its stream was lost before the answer was whole: nobody knows whether it was done. */
export function isLost(error: unknown): boolean {
  return error instanceof Error && losses.has(error);
}

/** The most bytes of a message that the library takes where nothing else is said. */
const mostBytes = 0xffff_ffff;

/**
 * A transport over the connections of a session manager. Calls name the request that they are made for. An answer is whole
 * only with its status: the error of one that was cut is `Unavailable`, but for what {@link errorOfReset} tells.
 */
export function grpcTransport(
  sessions: Sessions,
  { peer, readMaxBytes = mostBytes, interceptors = [] }: GrpcTransportOptions,
): Transport {
  return createGrpcTransport({
    baseUrl: sessions.authority,
    sessionManager: {
      authority: sessions.authority,
      request: async (...request) => {
        const stream = await sessions.request(...request);
        return readInWholeMessages(tellingLoss(stream, peer), readMaxBytes);
      },
      notifyResponseByteRead: (stream) => {
        sessions.notifyResponseByteRead(stream);
        if (stream.readableEnded && !stream.writableEnded) {
          stream.close(constants.NGHTTP2_CANCEL); // Nobody reads the rest of the request, which would keep it open.
        }
      },
    },
    interceptors: [...interceptors, namingRequest],
    acceptCompression: [],
    readMaxBytes,
  });
}

/**
 * Has the library find an error where a stream ends without a status. By itself it takes a stream that was cut for several
 * things, one of them a conflict, another an answer that is still to come; Node ends it like one that is complete. A write
 * that was cut is told of before the stream's error is.
 */
function tellingLoss(stream: ClientHttp2Stream, peer: string): ClientHttp2Stream {
  let isOver: boolean = false;
  const hear = (headers: IncomingHttpHeaders): void => {
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
  stream.on("response", hear).on("trailers", hear).on("error", fail);
  stream.once("end", () => fail()).once("close", () => fail());
  const write = stream.write.bind(stream);
  return Object.assign(stream, {
    write: (bytes: Uint8Array, encoding: BufferEncoding, written: (error?: Error | null) => void): boolean =>
      write(bytes, encoding, (error) => {
        if (error instanceof Error && resetCode() !== constants.NGHTTP2_NO_ERROR) {
          fail(error); // Without a code its answer may have come before all of it was read.
        }
        written(error);
      }),
  });
}
