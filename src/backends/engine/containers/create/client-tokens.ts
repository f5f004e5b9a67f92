/** Requests that may come twice because an answer was lost: the second gets the first one's. */
import type { Clock } from "../../../../common/clock.ts";

/** How long an answer is kept. */
export const tokenLifetimeMs = 3_600_000;
/** How many are kept at most; the oldest goes first. */
const mostTokens = 10_000;

interface Kept<T> {
  readonly answer: Promise<T>;
  readonly expiresMs: number;
}

/** The answers to requests of one kind, by the clients' tokens. */
export class ClientTokens<T> {
  readonly #kept = new Map<string, Kept<T>>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Answers as the first request with that token was answered, or is going to be. Failures are kept no longer than they last. */
  once(token: string, task: () => Promise<T>): Promise<T> {
    if (token === "") {
      return task();
    }
    const known = this.#kept.get(token);
    if (known !== undefined && known.expiresMs > this.#clock.nowMs()) {
      return known.answer;
    }
    const answer = task();
    this.#kept.delete(token);
    this.#kept.set(token, { answer, expiresMs: this.#clock.nowMs() + tokenLifetimeMs });
    answer.catch(() => this.#kept.delete(token));
    if (this.#kept.size > mostTokens) {
      const [oldest = ""] = this.#kept.keys();
      this.#kept.delete(oldest);
    }
    return answer;
  }
}
