/** Bytes whose number is known before they come. */

/**
 * Collects bytes out of chunks of any size: each is copied once, so that many small chunks cost what one
 * large one does.
 */
export class FillingBytes {
  readonly bytes: Uint8Array;
  #filled = 0;

  /** @param length in bytes; the caller has limited it, since the memory is taken at once */
  constructor(length: number) {
    this.bytes = new Uint8Array(length);
  }

  get isFull(): boolean {
    return this.#filled === this.bytes.length;
  }

  /**
   * Takes the bytes of a chunk that are still missing.
   *
   * @param position in the chunk to begin at
   * @returns the position in the chunk at which the rest begins
   */
  take(chunk: Uint8Array, position: number): number {
    const end = Math.min(chunk.length, position + this.bytes.length - this.#filled);
    this.bytes.set(chunk.subarray(position, end), this.#filled);
    this.#filled += end - position;
    return end;
  }
}
