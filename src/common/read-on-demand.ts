/** Streams of HTTP/2 of which little waits to be read. */
import type { Http2Stream } from "node:http2";

/**
 * Makes a stream open its window only once it is read and nothing waits: a reader that reads on only when it is done with
 * what it has, has one window come ahead. By itself Node opens the window until 64 KiB wait.
 */
export function readOnDemand<S extends Http2Stream>(stream: S): S {
  const [push, read] = [stream.push.bind(stream), stream.read.bind(stream)];
  const openWindow = stream._read.bind(stream);
  let isOpen = false;
  const pushAndClose = (chunk: unknown): boolean => {
    isOpen = false;
    push(chunk);
    return false;
  };
  const readOrOpen = (bytes?: number): unknown => {
    const chunk: unknown = read(bytes);
    if (chunk === null && stream.readableLength === 0 && !isOpen) {
      isOpen = true;
      openWindow(0);
    }
    return chunk;
  };
  return Object.assign(stream, { push: pushAndClose, read: readOrOpen, _read: () => {} });
}
