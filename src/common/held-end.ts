/** The end of a socket whose other end another process has: alone it may be that process's death. */
import type { Socket } from "node:net";

/**
 * Holds a socket's end back until it is said to be one. Everything before it is read first.
 *
 * @returns a function that says it: without an error the end is in order, with one it destroys the socket
 */
export function holdEnd(socket: Socket): (error?: Error) => void {
  const push = socket.push.bind(socket);
  let finish: ((error: Error | undefined) => void) | undefined;
  let said: { readonly error: Error | undefined } | undefined;
  socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    if (chunk !== null) {
      return push(chunk, encoding);
    }
    finish = (error) => void (error === undefined ? push(null) : socket.destroy(error));
    if (said !== undefined) {
      finish(said.error);
    }
    return false;
  };
  return (error) => {
    said = { error };
    finish?.(error);
  };
}
