/**
 * Bounds the memory that unfinished headers of requests hold together: each may have a mebibyte, and thousands of
 * connections may stand for as long as a header may take.
 */
import type { Socket } from "node:net";

/** Bytes of a header that count for nothing: no client but one that sends long credentials has more. */
const ordinaryBytes = 16 * 1024;

/** Connections on which a long header has begun. Of too many bytes, the connections that began first are closed. */
export class UnfinishedHeaders {
  readonly #mostBytes: number;
  readonly #onCut: (reason: string) => void;
  /** Bytes that have come of each long header, the one that became long first at first. */
  readonly #bytes = new Map<Socket, number>();
  #total = 0;

  /**
   * @param mostBytes of all long headers
   * @param onCut called with the reason for each connection that is closed
   */
  constructor(mostBytes: number, onCut: (reason: string) => void) {
    this.#mostBytes = mostBytes;
    this.#onCut = onCut;
  }

  /** So many bytes have come of the header that a connection sends. */
  set(connection: Socket, bytes: number): void {
    if (bytes <= ordinaryBytes) {
      return;
    }
    this.#total += bytes - (this.#bytes.get(connection) ?? 0);
    this.#bytes.set(connection, bytes);
    for (const oldest of this.#bytes.keys()) {
      if (this.#total <= this.#mostBytes) {
        return;
      }
      this.delete(oldest);
      oldest.destroy();
      this.#onCut(`unfinished headers have more than ${this.#mostBytes} bytes`);
    }
  }

  /** The header has ended, or its connection has. */
  delete(connection: Socket): void {
    this.#total -= this.#bytes.get(connection) ?? 0;
    this.#bytes.delete(connection);
  }
}
