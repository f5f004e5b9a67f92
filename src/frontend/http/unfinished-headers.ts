/**
 * Bounds the total memory of unfinished request headers: each may be a mebibyte, and thousands of connections may stay
 * open for as long as a header may take.
 */
import type { Socket } from "node:net";

/** Bytes of a header that are not counted: only clients with long credentials send more. */
const ordinaryBytes = 16 * 1024;

/** Connections with an unfinished long header. If the total is too large, those that began first are closed. */
export class UnfinishedHeaders {
  readonly #mostBytes: number;
  readonly #onCut: (reason: string) => void;
  /** Bytes received of each long header, in the order in which the headers became long. */
  readonly #bytes = new Map<Socket, number>();
  #total = 0;

  /**
   * @param mostBytes maximum total of all long headers
   * @param onCut called with the reason for each connection that is closed
   */
  constructor(mostBytes: number, onCut: (reason: string) => void) {
    this.#mostBytes = mostBytes;
    this.#onCut = onCut;
  }

  /** Records how many bytes of its current header a connection has sent. */
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

  /** Removes a connection whose header is complete, or which has closed. */
  delete(connection: Socket): void {
    this.#total -= this.#bytes.get(connection) ?? 0;
    this.#bytes.delete(connection);
  }
}
