/** Clients that take no more output, and what they had sent before. */
import { onAbort } from "../../common/on-abort.ts";

import type { Duplex } from "node:stream";

const losses = new WeakMap<Duplex, AbortController>();

/**
 * Has writes that fail drop what they write. Node would destroy the socket, and with it what the client had sent before
 * it closed its end: that is still to be read, up to its end.
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

/** Signal that aborts when output to a socket is lost; undefined for a socket of which that is not known. */
export function outputLoss(socket: Duplex): AbortSignal | undefined {
  return losses.get(socket)?.signal;
}

/** Calls `lost` once output to a socket is lost, at once where it is already. */
export function onOutputLoss(socket: Duplex, lost: () => void): void {
  onAbort(outputLoss(socket), lost);
}
