/** The time that a container's start may take, and what it is waiting for when that is over. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import { after } from "../../../common/timers.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";

/** Aborts a start that takes longer than it may. */
export class StartTimeout extends Error {
  /** @param section of the configuration that sets it */
  constructor(limitMs: number, section: string) {
    super(`the container's task was not ready within ${limitMs / 1000} s (${section}.start_timeout)`);
  }
}

/** The time of one start, and its limit. */
export class StartLimit implements Disposable {
  /** Aborts with a {@link StartTimeout}, or with the reason of the signal that this was made with. */
  readonly signal: AbortSignal;
  readonly #timeout = new AbortController();
  readonly #limitMs: number;
  readonly #section: string;
  readonly #clock: Clock;
  #leftMs: number;
  /** Since when the time runs; undefined: it stands still. */
  #runsSinceMs: number | undefined;
  #timer: Disposable | undefined;

  /** @param section as {@link StartTimeout} */
  constructor(limitMs: number, section: string, signal: AbortSignal, clock: Clock) {
    this.signal = AbortSignal.any([signal, this.#timeout.signal]);
    this.#limitMs = limitMs;
    this.#section = section;
    this.#clock = clock;
    this.#leftMs = limitMs;
    this.resume();
  }

  /** The time stands still from now on: what is waited for is none of the start's. */
  pause(): void {
    this[Symbol.dispose]();
    if (this.#runsSinceMs !== undefined) {
      this.#leftMs -= this.#clock.nowMs() - this.#runsSinceMs;
      this.#runsSinceMs = undefined;
    }
  }

  /** The time begins anew. */
  restart(): void {
    this.pause();
    this.#leftMs = this.#limitMs;
    this.resume();
  }

  /** The time goes on, if it stood still. */
  resume(): void {
    if (this.#runsSinceMs === undefined) {
      this.#runsSinceMs = this.#clock.nowMs();
      const over = (): void => this.#timeout.abort(new StartTimeout(this.#limitMs, this.#section));
      this.#timer = after(this.#clock, Math.max(this.#leftMs, 0), over);
    }
  }

  /**
   * Waits for one step of the start.
   *
   * @param stillTo what is told of the start if the time is over before the step is done: `the cloud has not …`
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
    return await this.during(stillTo, (signal) => unlessAborted(signal, step()));
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }
}
