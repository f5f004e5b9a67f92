/**
 * Streams of gRPC messages for the library, cut where messages end.
 *
 * Why: for each chunk that comes the library looks at all that it holds of a message, and Node makes a chunk of each
 * frame. An agent, which is not trusted, would hold up the thread with one message in frames of one byte.
 */
import type { ClientHttp2Stream } from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import { FillingBytes } from "../common/filling-bytes.ts";
import { announcedLength, prefixLength } from "./grpc-request.ts";

/** A stream whose asynchronous iterator, which is how the library reads it, gives whole messages. */
export function readInWholeMessages(stream: ClientHttp2Stream, maxBytes: number): ClientHttp2Stream {
  const chunks: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: stream[Symbol.asyncIterator].bind(stream),
  };
  return Object.assign(stream, { [Symbol.asyncIterator]: () => wholeMessages(chunks, maxBytes) });
}

/**
 * Yields the same bytes in chunks of one or more whole messages with their prefixes. The last chunk of a
 * message that is too large is its prefix, which the reader refuses, unless it was whole in a chunk.
 *
 * @param maxBytes of a message
 * @throws ConnectError `Internal`: the stream ended within a message
 */
export async function* wholeMessages(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<Uint8Array> {
  /** Message that does not end in the chunk in which it begins: its prefix, then all of it. */
  let cut: FillingBytes | undefined;
  for await (const chunk of chunks) {
    let at = 0;
    while (at < chunk.length) {
      if (cut === undefined) {
        const end = endOfWhole(chunk, at);
        if (end > at) {
          yield chunk.subarray(at, end);
        }
        at = end;
        cut = end < chunk.length ? new FillingBytes(prefixLength) : undefined;
        continue;
      }
      at = cut.take(chunk, at);
      if (cut.isFull) {
        const { bytes }: FillingBytes = cut;
        const length = announcedLength(bytes);
        if (length > maxBytes) {
          yield bytes;
          return;
        }
        if (bytes.length === prefixLength + length) {
          yield bytes;
          cut = undefined;
        } else {
          cut = new FillingBytes(prefixLength + length);
          cut.take(bytes, 0);
        }
      }
    }
  }
  if (cut !== undefined) {
    throw new ConnectError("the answer ends within a message", Code.Internal);
  }
}

/** Finds the end of the last message that is whole in a chunk; `start`: none is. */
function endOfWhole(chunk: Uint8Array, start: number): number {
  let end = start;
  while (end + prefixLength <= chunk.length) {
    const next = end + prefixLength + announcedLength(chunk.subarray(end, end + prefixLength));
    if (next > chunk.length) {
      break;
    }
    end = next;
  }
  return end;
}
