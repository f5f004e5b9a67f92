/**
 * A limit on what a TLS server may send before its client has finished its handshake. Node verifies whatever chain of
 * certificates comes, each of which may take 2 ms for its 400 bytes; who passes the bytes on ends the connection before.
 */

/** Bytes; an agent of ours sends some 2,020, with a certificate of P-256 and a key share of 1,120 bytes. */
export const longestHandshake = 2560;
/** Types of records that a client sends in the clear: change_cipher_spec, alert, handshake (RFC 8446, 5.1). */
const [firstInClear, lastInClear] = [20, 22];
/** A record's header: type, version (2 bytes), length (2 bytes, big-endian). */
const headerSize = 5;

/**
 * The limit of one connection. It is lifted by the client's first encrypted record, which in TLS 1.3 comes after the
 * server's certificates were verified; no second ClientHello lifts it. It does not hold for other protocols.
 */
export class HandshakeLimit {
  #isLifted = false;
  /** Bytes of the current header that have come. */
  #headerBytes = 0;
  /** Bytes of the current record still to come. */
  #rest = 0;
  #received = 0;

  /** True once neither side's bytes need to be noted any more. */
  get isLifted(): boolean {
    return this.#isLifted;
  }

  /** Notes bytes of the client, before they are passed on; a record may come in pieces. */
  noteSent(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length && !this.#isLifted; ) {
      if (this.#headerBytes === headerSize) {
        const skipped = Math.min(this.#rest, chunk.length - at);
        at += skipped;
        this.#rest -= skipped;
        if (this.#rest === 0) {
          this.#headerBytes = 0;
        }
      } else {
        this.#noteHeader(chunk[at++] ?? 0);
      }
    }
  }

  /** Notes bytes of the server, before they are passed on. @returns false: too many, the connection is to be ended */
  noteReceived(bytes: number): boolean {
    this.#received += bytes;
    return this.#isLifted || this.#received <= longestHandshake;
  }

  #noteHeader(byte: number): void {
    this.#headerBytes++;
    if (this.#headerBytes === 1) {
      this.#isLifted = byte < firstInClear || byte > lastInClear;
    } else if (this.#headerBytes > 3) {
      this.#rest = (this.#rest << 8) | byte;
    }
  }
}
