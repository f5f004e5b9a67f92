/** Output of a container in lines, as its log driver sends them. */

/** A longer line is sent as several events: what the clouds' logs took in one when this was written. */
const longestLine = 262_144 - 26;

const newline = 0x0a;

/**
 * Cuts bytes into lines; empty lines are no events. Those that one chunk ends are told together: with each for itself a
 * container that writes much would keep this process, where tests have their clients, from everything else.
 */
export class LineReader {
  readonly #onLines: (lines: readonly string[]) => void;
  #lines: string[] = [];
  #rest: Buffer[] = [];
  #restLength = 0;

  /** @param onLines is never called with none */
  constructor(onLines: (lines: readonly string[]) => void) {
    this.#onLines = onLines;
  }

  write(chunk: Buffer): void {
    for (let from = 0; from < chunk.length; from += longestLine) {
      this.#writePart(chunk.subarray(from, from + longestLine));
    }
    this.#tell();
  }

  /** The last line need not end with a newline. */
  end(): void {
    this.#finish();
    this.#tell();
  }

  /** @param part in which no line is too long that both begins and ends there */
  #writePart(part: Buffer): void {
    const first = part.indexOf(newline);
    const last = part.lastIndexOf(newline);
    if (first >= 0) {
      this.#take(part.subarray(0, first));
      this.#finish();
    }
    if (last > first) {
      this.#lines.push(
        ...part
          .toString("utf8", first + 1, last)
          .split("\n")
          .filter(Boolean),
      );
    }
    this.#take(part.subarray(last + 1));
  }

  #take(bytes: Buffer): void {
    let left = bytes;
    while (this.#restLength + left.length > longestLine) {
      const fits = longestLine - this.#restLength;
      this.#rest.push(left.subarray(0, fits));
      this.#finish();
      left = left.subarray(fits);
    }
    this.#rest.push(left);
    this.#restLength += left.length;
  }

  #finish(): void {
    const line = Buffer.concat(this.#rest).toString();
    this.#rest = [];
    this.#restLength = 0;
    if (line !== "") {
      this.#lines.push(line);
    }
  }

  #tell(): void {
    if (this.#lines.length > 0) {
      const lines = this.#lines;
      this.#lines = [];
      this.#onLines(lines);
    }
  }
}
