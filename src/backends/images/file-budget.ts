/** Memory for files that are looked up. */
import { unavailable } from "../../common/errors.ts";

/** Characters of names that take as much memory as a file. */
const charactersPerFile = 256;

/** Files that a file with a path and a link's target of so many characters counts as. */
export function weightOf(characters: number): number {
  return 1 + Math.floor(characters / charactersPerFile);
}

/** Milliseconds for which an answer waits for its reader, in all, before it gives way to others. */
const unreadMs = 60_000;

/** A number of files that several indexes hold together. */
export class FileBudget {
  #free: number;
  readonly #nowMs: () => number;
  /** Answers that wait for their readers: the end of each, and when it would have begun to wait had it waited without a break. */
  readonly #unread = new Map<() => void, number>();

  constructor(total: number, nowMs: () => number = () => performance.now()) {
    this.#free = total;
    this.#nowMs = nowMs;
  }

  /**
   * Counts these files as held. If there is no room, answers are ended that wait for their readers.
   *
   * @throws unavailable: there is no room for them
   */
  take(files: number): void {
    if (files > this.#free) {
      this.#endUnread(files);
    }
    if (files > this.#free) {
      throw unavailable("the files of too many containers are being read: try again later");
    }
    this.#free -= files;
  }

  /** Counts these files as free again. */
  give(files: number): void {
    this.#free += files;
  }

  /**
   * The messages of an answer that needs files which are held.
   *
   * @param end ends the answer, and gives its files back
   */
  async *givingWay<T>(messages: AsyncIterable<T>, end: () => void): AsyncGenerator<T> {
    let waitedMs = 0;
    try {
      for await (const message of messages) {
        const sinceMs = this.#nowMs() - waitedMs;
        this.#unread.set(end, sinceMs);
        yield message;
        this.#unread.delete(end);
        waitedMs = this.#nowMs() - sinceMs;
      }
    } finally {
      this.#unread.delete(end);
    }
  }

  /** Ends answers until there is room, the longest waiting first. */
  #endUnread(files: number): void {
    for (const [end, sinceMs] of [...this.#unread].sort(([, one], [, other]) => one - other)) {
      if (files <= this.#free || this.#nowMs() - sinceMs < unreadMs) {
        return;
      }
      this.#unread.delete(end);
      end();
    }
  }
}
