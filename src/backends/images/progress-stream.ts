/** Progress of work, as a stream of messages with heartbeats. */
import { Turns } from "../../common/turns.ts";
import type { ProgressLine, ReportProgress } from "./progress.ts";

/** Milliseconds of silence before a heartbeat. */
const heartbeatMs = 15_000;

/** The most lines kept for a reader that is slower than the work. */
export const mostLines = 1_000;

/** Messages of all streams in a turn of the event loop: each takes some hundred microseconds until it is sent. */
export const messagesOfTurn = 4;
/** The most lines of a message: those of an image's layers. */
const linesOfMessage = 128;

const turns = new Turns(messagesOfTurn);

export type ProgressMessage =
  | { readonly kind: "progress"; readonly lines: readonly [ProgressLine, ...ProgressLine[]] }
  | { readonly kind: "heartbeat" };

/**
 * Runs work and yields its progress, at once what has come while others had their turns; returns its result, throws its error.
 * A reader slower than the work gets the newest line of each layer, as from moby, in the place of its oldest one; of more than
 * {@link mostLines} the first are dropped. If the reader leaves, the work is aborted.
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
      await queue.changeOrSilence();
      await turns.next();
      const message = queue.next();
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

  /** The lines since the last call: a heartbeat if nothing has; undefined after the last message. */
  next(): ProgressMessage | undefined {
    const first = this.#shift();
    if (first === undefined) {
      return this.#ended ? undefined : { kind: "heartbeat" };
    }
    const more = [...this.#lines].slice(0, linesOfMessage - 1);
    for (const [key] of more) {
      this.#lines.delete(key);
    }
    return { kind: "progress", lines: [first, ...more.map(([, line]) => line)] };
  }

  #shift(): ProgressLine | undefined {
    for (const [key, line] of this.#lines) {
      this.#lines.delete(key);
      return line;
    }
    return undefined;
  }

  /** Resolves once there is a line, the work has ended, or neither for a while. Calls must not overlap. */
  changeOrSilence(): Promise<void> {
    if (this.#lines.size > 0 || this.#ended) {
      return Promise.resolve();
    }
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
