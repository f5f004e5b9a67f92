/** The time limit of a container's start, and the step that exceeds it. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import { after } from "../../../common/timers.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";

/** Abort reason of a start that exceeds its time limit. */
export class StartTimeout extends Error {
  /** @param section the configuration's section that sets it */
  constructor(limitMs: number, section: string) {
    super(`the container's task was not ready within ${limitMs / 1000} s (${section}.start_timeout)`);
  }
}

/** The timer of one start. */
export class StartLimit implements Disposable {
  /** Aborts with a {@link StartTimeout}, or with the given signal's reason. */
  readonly signal: AbortSignal;
  readonly #timeout = new AbortController();
  readonly #limitMs: number;
  readonly #section: string;
  readonly #clock: Clock;
  #leftMs: number;
  /** Since when the timer runs; undefined while paused. */
  #runsSinceMs: number | undefined;
  #timer: Disposable | undefined;

  /**
   * @param section as in {@link StartTimeout}
   * @param leftMs of the limit, if the start has used some of it before
   */
  constructor(limitMs: number, section: string, signal: AbortSignal, clock: Clock, leftMs = limitMs) {
    this.signal = AbortSignal.any([signal, this.#timeout.signal]);
    this.#limitMs = limitMs;
    this.#section = section;
    this.#clock = clock;
    this.#leftMs = leftMs;
    this.resume();
  }

  /** Milliseconds until the limit. */
  get leftMs(): number {
    const runMs = this.#runsSinceMs === undefined ? 0 : this.#clock.nowMs() - this.#runsSinceMs;
    return this.#leftMs - runMs;
  }

  /** Pauses the timer during waits that do not count. */
  pause(): void {
    this[Symbol.dispose]();
    this.#leftMs = this.leftMs;
    this.#runsSinceMs = undefined;
  }

  /** Restarts the timer. */
  restart(): void {
    this.pause();
    this.#leftMs = this.#limitMs;
    this.resume();
  }

  /** Resumes the timer if it was paused. */
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
   * @param stillTo the error message if the time limit passes during the step: `the cloud has not …`
   * @param step ends by itself when its signal aborts, possibly with a more specific error
   * @throws system: the time is over; the step's errors
   */
  async during<T>(stillTo: string, step: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      this.signal.throwIfAborted();
      return await step(this.signal);
    } catch (error) {
      throw error instanceof StartTimeout ? systemError(`${messageOf(error)}: ${stillTo}`, error) : error;
    }
  }

  /** The same for a step that continues after the start's failure. */
  async meanwhile<T>(stillTo: string, step: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return await this.during(stillTo, (signal) => unlessAborted(signal, step(signal)));
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }
}
