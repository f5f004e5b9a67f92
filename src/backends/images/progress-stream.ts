/** Work that reports progress, as a stream of messages with heartbeats in between. */
import type { ProgressLine, ReportProgress } from "./progress.ts";

/** How long a stream may be silent before a heartbeat goes out, in milliseconds. */
const heartbeatMs = 15_000;

/** A message of a stream of progress. */
export type ProgressMessage =
  | { readonly kind: "progress"; readonly line: ProgressLine }
  | { readonly kind: "heartbeat" };

/**
 * Runs work and yields what it reports; returns its result, throws its error. A reader that is slower than the work
 * misses byte counts that newer ones have overtaken, and nothing else, so memory is bounded by the number of layers. A
 * reader that leaves aborts the work.
 */
export async function* progressStream<T>(
  work: (report: ReportProgress, signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
): AsyncGenerator<ProgressMessage, T> {
  const left = new AbortController();
  const queue = new ProgressQueue();
  const outcome = settled(
    work((line) => queue.push(line), AbortSignal.any([signal, left.signal])).finally(() => queue.end()),
  );
  try {
    for (;;) {
      const message = await queue.next();
      if (message === undefined) {
        const result = await outcome;
        if (result.ok) {
          return result.value;
        }
        throw result.error;
      }
      yield message;
    }
  } finally {
    left.abort();
    queue.end();
    await outcome;
  }
}

type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown };

function settled<T>(promise: Promise<T>): Promise<Outcome<T>> {
  return promise.then(
    (value) => ({ ok: true, value }),
    (error: unknown) => ({ ok: false, error }),
  );
}

class ProgressQueue {
  readonly #lines: ProgressLine[] = [];
  #ended = false;
  #wake: (() => void) | undefined;

  push(line: ProgressLine): void {
    const overtaken =
      line.current === undefined
        ? -1
        : this.#lines.findIndex((each) => each.id === line.id && each.status === line.status);
    if (overtaken < 0) {
      this.#lines.push(line);
    } else {
      this.#lines[overtaken] = line;
    }
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** The next message; undefined after the last. One caller at a time. */
  async next(): Promise<ProgressMessage | undefined> {
    if (this.#lines.length === 0 && !this.#ended) {
      await this.#changeOrSilence();
    }
    const line = this.#lines.shift();
    if (line !== undefined) {
      return { kind: "progress", line };
    }
    return this.#ended ? undefined : { kind: "heartbeat" };
  }

  #changeOrSilence(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), heartbeatMs);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
