/** Streams of HTTP/2 of which little waits to be read. */
import type { ClientHttp2Stream } from "node:http2";

import { packWaiting } from "../../common/pack-waiting.ts";

/**
 * Makes a stream open its window only once all that has come is read, and joins what waits: for readers that take all of it, as
 * the asynchronous iterator does. By itself Node opens the window until 64 KiB wait, in chunks that may be smaller than what keeps
 * them.
 */
export function readOnDemand(stream: ClientHttp2Stream): ClientHttp2Stream {
  packWaiting(stream);
  const [push, read] = [stream.push.bind(stream), stream.read.bind(stream)];
  const openWindow = stream._read.bind(stream);
  const openOnceRead = (bytes: number): void => {
    if (stream.readableLength === 0) {
      openWindow(bytes);
    }
  };
  const pushAndClose = (chunk: unknown): boolean => {
    push(chunk);
    return false;
  };
  const readAndOpen = (bytes?: number): unknown => {
    const chunk: unknown = read(bytes);
    if (chunk !== null) {
      openOnceRead(0);
    }
    return chunk;
  };
  return Object.assign(stream, { push: pushAndClose, read: readAndOpen, _read: openOnceRead });
}
