/** Clients that read no more output: keeps the input that they had sent before. */
import { onAbort } from "../../common/on-abort.ts";

import type { Duplex } from "node:stream";

const losses = new WeakMap<Duplex, AbortController>();

/**
 * Makes failing writes drop their data. Node would destroy the socket together with unread input, which must still be
 * read to its end.
 */
export function keepReadingWithoutOutput(socket: Duplex): void {
  const loss = new AbortController();
  losses.set(socket, loss);
  const { _write: write, _writev: writev } = socket;
  const dropping =
    (written: (error?: Error | null) => void) =>
    (error?: Error | null): void => {
      if (error !== undefined && error !== null) {
        loss.abort(error);
      }
      written();
    };
  socket._write = (chunk, encoding, written) => {
    if (loss.signal.aborted) {
      written();
    } else {
      write.call(socket, chunk, encoding, dropping(written));
    }
  };
  if (writev !== undefined && writev !== null) {
    socket._writev = (chunks, written) => {
      if (loss.signal.aborted) {
        written();
      } else {
        writev.call(socket, chunks, dropping(written));
      }
    };
  }
}

/** Signal that aborts when output to a socket is lost; undefined for sockets without that detection. */
export function outputLoss(socket: Duplex): AbortSignal | undefined {
  return losses.get(socket)?.signal;
}

/** Calls `lost` once output to a socket is lost; at once if it already is. */
export function onOutputLoss(socket: Duplex, lost: () => void): void {
  onAbort(outputLoss(socket), lost);
}
