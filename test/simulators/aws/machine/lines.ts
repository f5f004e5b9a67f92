/** Output of a container in lines, as its log driver sends them. */

/** Fargate's log driver sends a longer line as several events: what CloudWatch took in one when it was written. */
const longestLine = 262_144 - 26;

const newline = 0x0a;

/** Cuts bytes into lines; empty lines are no events. */
export class LineReader {
  readonly #onLine: (line: string) => void;
  #rest: Buffer[] = [];
  #restLength = 0;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  write(chunk: Buffer): void {
    let from = 0;
    for (;;) {
      const end = chunk.indexOf(newline, from);
      if (end < 0) {
        break;
      }
      this.#take(chunk.subarray(from, end));
      this.#finish();
      from = end + 1;
    }
    this.#take(chunk.subarray(from));
  }

  /** The last line need not end with a newline. */
  end(): void {
    this.#finish();
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
      this.#onLine(line);
    }
  }
}
