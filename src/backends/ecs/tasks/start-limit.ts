/** The time that a container's start may take, and what it is waiting for when that is over. */
import { messageOf, systemError } from "../../../common/errors.ts";

/** Aborts a start that takes longer than it may. */
export class StartTimeout extends Error {
  constructor(limitMs: number) {
    super(`the container's task was not ready within ${limitMs / 1000} s (ecs.start_timeout)`);
  }
}

/** Of one start. */
export class StartLimit implements Disposable {
  /** Aborts with a {@link StartTimeout}, or with the reason of the signal that this was made with. */
  readonly signal: AbortSignal;
  readonly #timeout = new AbortController();
  readonly #limitMs: number;
  #leftMs: number;
  /** Since when the clock runs, as `performance.now()` tells; undefined: it stands still. */
  #runsSinceMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(limitMs: number, signal: AbortSignal) {
    this.signal = AbortSignal.any([signal, this.#timeout.signal]);
    this.#limitMs = limitMs;
    this.#leftMs = limitMs;
    this.resume();
  }

  /** The clock stands still from now on: what is waited for is none of the start's. */
  pause(): void {
    clearTimeout(this.#timer);
    if (this.#runsSinceMs !== undefined) {
      this.#leftMs -= performance.now() - this.#runsSinceMs;
      this.#runsSinceMs = undefined;
    }
  }

  /** The time begins anew. */
  restart(): void {
    this.pause();
    this.#leftMs = this.#limitMs;
    this.resume();
  }

  /** The clock goes on, if it stood still. */
  resume(): void {
    if (this.#runsSinceMs === undefined) {
      this.#runsSinceMs = performance.now();
      const over = (): void => this.#timeout.abort(new StartTimeout(this.#limitMs));
      this.#timer = setTimeout(over, Math.max(this.#leftMs, 0));
    }
  }

  /**
   * Waits for one step of the start.
   *
   * @param stillTo what is told of the start if the time is over before the step is done: `AWS has not …`
   * @param step ends by itself when its signal aborts, and may then have more to say
   * @throws system: the time is over; what the step throws
   */
  async during<T>(stillTo: string, step: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      this.signal.throwIfAborted();
      return await step(this.signal);
    } catch (error) {
      throw error instanceof StartTimeout ? systemError(`${messageOf(error)}: ${stillTo}`, error) : error;
    }
  }

  /** The same for a step that goes on behind the start's failure, where nobody waits for it any more. */
  async meanwhile<T>(stillTo: string, step: () => Promise<T>): Promise<T> {
    return await this.during(stillTo, async (signal) => {
      const aborted = Promise.withResolvers<never>();
      const abort = (): void => aborted.reject(signal.reason);
      signal.addEventListener("abort", abort, { once: true });
      try {
        return await Promise.race([step(), aborted.promise]);
      } finally {
        signal.removeEventListener("abort", abort);
      }
    });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
