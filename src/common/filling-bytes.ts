/** A buffer for bytes whose number is known in advance. */

/**
 * Collects bytes from chunks of any size. Each byte is copied once, so that many small chunks cost as much as one large
 * one.
 */
export class FillingBytes {
  readonly bytes: Uint8Array;
  #filled = 0;

  /** @param length in bytes; limited by the caller, since the memory is allocated at once */
  constructor(length: number) {
    this.bytes = new Uint8Array(length);
  }

  get isFull(): boolean {
    return this.#filled === this.bytes.length;
  }

  /**
   * Copies the bytes of a chunk that are still missing.
   *
   * @param position in the chunk to start at
   * @returns the position after the last copied byte
   */
  take(chunk: Uint8Array, position: number): number {
    const end = Math.min(chunk.length, position + this.bytes.length - this.#filled);
    this.bytes.set(chunk.subarray(position, end), this.#filled);
    this.#filled += end - position;
    return end;
  }
}
