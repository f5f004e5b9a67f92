/**
 * A limit for a server's part of a TLS handshake. OpenSSL checks the signatures of all certificates that it is sent, on
 * the thread that reads them, even if nobody wants to know: 100 KiB of the dearest ones take half a second.
 */
import { Duplex } from "node:stream";

/** An agent of ours sends 1 KiB. Certificates that take longer than a few milliseconds have no room in this. */
const maxBytes = 4 * 1024;

/** A connection that is destroyed when its peer sends more than a handshake before the limit is lifted. */
export class HandshakeLimit extends Duplex {
  readonly #connection: Duplex;
  #left = maxBytes;

  constructor(connection: Duplex) {
    super({ allowHalfOpen: false });
    this.#connection = connection;
    connection.on("data", (chunk: Buffer) => this.#hear(chunk));
    connection.once("end", () => this.push(null));
    connection.once("error", (error) => this.destroy(error));
    connection.once("close", () => this.destroy());
  }

  /** From now on any number of bytes may come. */
  lift(): void {
    this.#left = Number.POSITIVE_INFINITY;
  }

  override _read(): void {
    this.#connection.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: (error?: Error | null) => void): void {
    this.#connection.write(chunk, written);
  }

  override _writev(
    chunks: readonly { readonly chunk: Buffer }[],
    written: (error?: Error | null) => void,
  ): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), "binary", written);
  }

  override _final(done: () => void): void {
    this.#connection.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#connection.on("error", () => {}).destroy();
    done(error);
  }

  #hear(chunk: Buffer): void {
    this.#left -= chunk.length;
    if (this.#left < 0) {
      this.destroy(new Error(`its handshake is longer than ${maxBytes} bytes`));
    } else if (!this.push(chunk)) {
      this.#connection.pause();
    }
  }
}
