/** Streams of calls that were lost before their response was complete. */
import { type ClientHttp2Stream, constants } from "node:http2";

import { ConnectError } from "@connectrpc/connect";
import type { GrpcTransportOptions as LibraryOptions } from "@connectrpc/connect-node";

import { errorOfReset } from "./grpc-status.ts";

/** The library's interface for opening streams. */
export type Sessions = NonNullable<LibraryOptions["sessionManager"]>;

const losses = new WeakSet<Error>();

/**
 * True if a call's stream was lost before the response was complete, so that it may or may not have been carried out.
 */
export function isLostStream(error: unknown): boolean {
  return error instanceof Error && losses.has(error);
}

/** A response that is being received. */
export interface PendingResponse {
  /** Marks it as complete: errors of the stream no longer matter. */
  complete(): void;
  /** Reports the loss as the stream's error, unless the response is complete. */
  lose(): void;
}

/**
 * Makes the library see one error, which {@link isLostStream} recognizes, for all of a stream's failures. A failed write is
 * reported before the stream's error.
 */
export function pendingResponse(stream: ClientHttp2Stream, peer: string): PendingResponse {
  let isOver: boolean = false;
  const resetCode = (): number => stream.rstCode ?? constants.NGHTTP2_NO_ERROR;
  const lose = (error?: Error): void => {
    if (!isOver) {
      isOver = true;
      const reset = errorOfReset(resetCode(), peer);
      const loss = error instanceof ConnectError ? error : reset;
      losses.add(loss);
      stream.emit("error", loss);
    }
  };
  stream.on("error", lose);
  const write = stream.write.bind(stream);
  Object.assign(stream, {
    write: (bytes: Uint8Array, encoding: BufferEncoding, written: (error?: Error | null) => void): boolean =>
      write(bytes, encoding, (error) => {
        if (error instanceof Error && resetCode() !== constants.NGHTTP2_NO_ERROR) {
          lose(error); // Without a reset code the response may have arrived before the whole request was read.
        }
        written(error);
      }),
  });
  return {
    complete: () => {
      isOver = true;
    },
    lose: () => lose(),
  };
}

/**
 * The same sessions, with each stream as `prepared` returns it. A request is no longer sent once its response has been
 * read: nothing reads the rest, which would keep the stream open.
 */
export function preparingStreams(
  sessions: Sessions,
  prepared: (stream: ClientHttp2Stream, path: string) => ClientHttp2Stream,
): Sessions {
  return {
    authority: sessions.authority,
    request: async (method, path, ...rest) => prepared(await sessions.request(method, path, ...rest), path),
    notifyResponseByteRead: (stream) => {
      sessions.notifyResponseByteRead(stream);
      if (stream.readableEnded && !stream.writableFinished) {
        stream.close(constants.NGHTTP2_CANCEL);
      }
    },
  };
}
