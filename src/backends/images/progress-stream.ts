/** Progress of work, as a stream of messages with heartbeats. */
import { Turns } from "../../common/turns.ts";
import type { ProgressLine, ReportProgress } from "./progress.ts";

/** Milliseconds of silence before a heartbeat. */
const heartbeatMs = 15_000;

/** The most lines kept for a reader that is slower than the work. */
export const mostLines = 1_000;

/** Lines of all streams in a turn of the event loop: each takes tens of microseconds until it is sent. */
export const linesOfTurn = 16;

const turns = new Turns(linesOfTurn);

export type ProgressMessage =
  | { readonly kind: "progress"; readonly line: ProgressLine }
  | { readonly kind: "heartbeat" };

/**
 * Runs work and yields its progress; returns its result, throws its error. A reader slower than the work gets the newest line
 * of each layer, as from moby, in the place of its oldest one; of more than {@link mostLines} the first are dropped. If the
 * reader leaves, the work is aborted.
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
      await turns.next();
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
  /** Those of a layer by its ID, and other byte counts by their status, which newer ones replace; others by themselves. */
  readonly #lines = new Map<string | ProgressLine, ProgressLine>();
  #ended = false;
  #wake: (() => void) | undefined;

  push(line: ProgressLine): void {
    const ofAll = line.current === undefined ? line : line.status;
    this.#lines.set(line.id === "" ? ofAll : line.id, line);
    if (this.#lines.size > mostLines) {
      this.#shift();
    }
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** The next message; undefined after the last. Calls must not overlap. */
  async next(): Promise<ProgressMessage | undefined> {
    if (this.#lines.size === 0 && !this.#ended) {
      await this.#changeOrSilence();
    }
    const line = this.#shift();
    if (line !== undefined) {
      return { kind: "progress", line };
    }
    return this.#ended ? undefined : { kind: "heartbeat" };
  }

  #shift(): ProgressLine | undefined {
    for (const [key, line] of this.#lines) {
      this.#lines.delete(key);
      return line;
    }
    return undefined;
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
