/**
 * Splits streams of gRPC messages at message boundaries for the library.
 *
 * For each chunk the library scans all it holds of a message, and Node makes a chunk of each frame. So an untrusted
 * agent could block the thread by one message in frames of one byte.
 */
import type { ClientHttp2Stream } from "node:http2";

import type { DescMessage } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { FillingBytes } from "../common/filling-bytes.ts";
import { announcedLength, prefixLength } from "./grpc-request.ts";
import { inSteps } from "./message-costs.ts";

/**
 * Makes the stream's asynchronous iterator, which the library reads, yield whole messages.
 *
 * @param output their type, where what they cost is bounded
 */
export function readInWholeMessages(
  stream: ClientHttp2Stream,
  maxBytes: number,
  output: DescMessage | undefined,
): ClientHttp2Stream {
  const chunks: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: stream[Symbol.asyncIterator].bind(stream),
  };
  const messages = (): AsyncGenerator<Uint8Array> => {
    const whole = wholeMessages(chunks, maxBytes);
    return output === undefined ? whole : inSteps(whole, output);
  };
  return Object.assign(stream, { [Symbol.asyncIterator]: messages });
}

/**
 * Yields the same bytes in chunks of one or more whole messages with their prefixes. For a message that is too large it
 * yields the prefix, which the reader refuses, unless one chunk held it whole.
 *
 * @param maxBytes of a message
 * @throws ConnectError `Internal` if the stream ends within a message
 */
export async function* wholeMessages(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<Uint8Array> {
  /** A message that extends beyond its first chunk: its prefix, then all of it. */
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

/** The end of the last complete message in a chunk; `start` if there is none. */
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
