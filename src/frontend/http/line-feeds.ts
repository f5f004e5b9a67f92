/**
 * Headers whose lines end with a line feed alone, which Go's server takes and Node's parser refuses: Jenkins' docker plugin
 * writes the start of an exec so. Only a request line that ends so makes a header one of these; in others a lone line feed
 * stays an error, since what stands between us and a client may take it for part of a value.
 */

/** Bytes of such a header whose line ends are mended; the parser refuses what comes after them. */
const maxBytes = 16 * 1024;

/** Bytes that may belong to a line's end, or to a blank line, and come before the next ones. */
const endBytes = 2;

/** The lines of one connection's headers. */
export class LineFeeds {
  /** Undefined: the request line has not ended. */
  #isAlone: boolean | undefined;
  /** The last characters of those that were taken. */
  #before = "";
  #length = 0;

  /** Another header begins. */
  reset(): void {
    this.#isAlone = undefined;
    this.#before = "";
    this.#length = 0;
  }

  /**
   * Takes bytes of a header.
   *
   * @returns those up to the header's end, with whole line ends, and how many they were; undefined: they are whole already
   */
  take(bytes: Buffer): { readonly whole: Buffer; readonly length: number } | undefined {
    if (this.#isAlone === false) {
      return undefined;
    }
    const before = this.#before;
    const lineEnd = this.#isAlone === undefined ? bytes.indexOf("\n") : -1;
    if (lineEnd >= 0) {
      this.#isAlone = !(before + bytes.toString("latin1", 0, lineEnd)).endsWith("\r");
    }
    const mended = this.#isAlone === true ? maxBytes - this.#length : 0;
    if (mended === 0) {
      this.#before = (before + bytes.toString("latin1", Math.max(0, bytes.length - endBytes))).slice(
        -endBytes,
      );
      return undefined;
    }
    const taken = bytes.toString("latin1", 0, mended);
    const text = before + taken;
    const blankLine = /\n\r?\n/.exec(text);
    const end = blankLine === null ? text.length : blankLine.index + blankLine[0].length;
    const lines = text.slice(before.length, end);
    const isWithinEnd = before.endsWith("\r") && lines.startsWith("\n");
    const whole = lines.replaceAll(/(?<!\r)\n/g, "\r\n").slice(isWithinEnd ? 1 : 0);
    this.#before = blankLine === null ? text.slice(-endBytes) : "";
    this.#length += lines.length;
    return { whole: Buffer.from(whole, "latin1"), length: lines.length };
  }
}
