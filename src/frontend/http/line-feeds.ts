/**
 * Headers whose lines end with a line feed alone, which Go's server takes and Node's parser refuses: Jenkins' docker plugin
 * writes the start of an exec so. Only a request line that ends so makes a header one of these; in others a lone line feed
 * stays an error, since what stands between us and a client may take it for part of a value.
 */

const [lineFeed, carriageReturn] = [0x0a, 0x0d];
const lineEnd = Buffer.from("\r\n");

/** The lines of one connection's headers. */
export class LineFeeds {
  /** Undefined: the request line has not ended. */
  #isAlone: boolean | undefined;
  /** The byte before the next one. */
  #last = 0;
  /** Whether the line that has begun has no byte so far. */
  #isLineEmpty = false;

  /** Another header begins. */
  reset(): void {
    this.#isAlone = undefined;
    this.#last = 0;
    this.#isLineEmpty = false;
  }

  /**
   * Takes bytes of a header.
   *
   * @returns those up to the header's end, with whole line ends, and how many they were; undefined: they are whole already
   */
  take(bytes: Buffer): { readonly whole: Buffer; readonly length: number } | undefined {
    if (this.#isAlone === undefined) {
      const end = bytes.indexOf(lineFeed);
      if (end >= 0) {
        this.#isAlone = (end === 0 ? this.#last : bytes[end - 1]) !== carriageReturn;
      }
    }
    if (this.#isAlone !== true) {
      this.#last = bytes.at(-1) ?? this.#last;
      return undefined;
    }
    const pieces: Buffer[] = [];
    let start = 0;
    for (const [at, byte] of bytes.entries()) {
      const isEnd = byte === lineFeed;
      if (isEnd && this.#last !== carriageReturn) {
        pieces.push(bytes.subarray(start, at), lineEnd);
        start = at + 1;
      }
      this.#last = byte;
      if (isEnd && this.#isLineEmpty) {
        return { whole: Buffer.concat([...pieces, bytes.subarray(start, at + 1)]), length: at + 1 };
      }
      this.#isLineEmpty = isEnd || (this.#isLineEmpty && byte === carriageReturn);
    }
    return { whole: Buffer.concat([...pieces, bytes.subarray(start)]), length: bytes.length };
  }
}
