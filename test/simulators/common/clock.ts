/** The simulated cloud's time: it runs with the machine's, and a test can put it forward. */

/** Something to be done at a simulated time. */
interface Appointment {
  readonly at: number;
  readonly action: () => void;
}

/** The machine's time and what a test has added to it; never back. */
export class SimulatedClock {
  #addedMs = 0;
  #appointments: Appointment[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** Simulated milliseconds since the epoch. */
  nowMs(): number {
    return Date.now() + this.#addedMs;
  }

  /** Simulated time. */
  now(): Date {
    return new Date(this.nowMs());
  }

  /** Puts the time forward; what becomes due by it is done, in order, before this returns. */
  advance(ms: number): void {
    if (ms < 0) {
      throw new RangeError("time does not go back");
    }
    const target = this.nowMs() + ms;
    for (;;) {
      const next = this.#appointments[0];
      if (next === undefined || next.at > target) {
        break;
      }
      this.#addedMs += Math.max(0, next.at - this.nowMs());
      this.#appointments.shift();
      next.action();
    }
    this.#addedMs += Math.max(0, target - this.nowMs());
    this.#arm();
  }

  /** Does something after so many simulated milliseconds; answers how to call it off. */
  after(ms: number, action: () => void): () => void {
    const appointment: Appointment = { at: this.nowMs() + ms, action };
    const index = this.#appointments.findIndex(({ at }) => at > appointment.at);
    this.#appointments.splice(index < 0 ? this.#appointments.length : index, 0, appointment);
    this.#arm();
    return () => {
      this.#appointments = this.#appointments.filter((each) => each !== appointment);
      this.#arm();
    };
  }

  /**
   * Resolves after so many simulated milliseconds.
   *
   * @throws the signal's reason, as soon as it aborts
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (signal?.aborted === true) {
      reject(signal.reason);
      return promise;
    }
    const giveUp = (): void => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = this.after(ms, () => {
      signal?.removeEventListener("abort", giveUp);
      resolve();
    });
    signal?.addEventListener("abort", giveUp, { once: true });
    return promise;
  }

  /** Forgets everything that was to be done. */
  stop(): void {
    this.#appointments = [];
    clearTimeout(this.#timer);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.#appointments[0];
    if (next === undefined) {
      return;
    }
    // A longer delay than 2^31 ms would fire at once.
    const wait = Math.min(Math.max(0, next.at - this.nowMs()), 0x7fffffff);
    this.#timer = setTimeout(() => this.advance(0), wait);
    this.#timer.unref();
  }
}
