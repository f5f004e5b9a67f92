/** Idempotency tokens: a request that is repeated because its answer was lost gets the first one's answer. */
import type { Clock } from "../../../../common/clock.ts";
import { remember } from "../../../../common/forget-oldest.ts";

/** Milliseconds for which an answer is kept. */
export const tokenLifetimeMs = 3_600_000;
/** Maximum number of kept answers; the oldest is dropped first. */
const mostTokens = 10_000;

interface Kept<T> {
  readonly answer: Promise<T>;
  readonly expiresMs: number;
}

/** Answers to requests of one kind, by client token. */
export class ClientTokens<T> {
  readonly #kept = new Map<string, Kept<T>>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Answers like the first request with the same token, finished or not. Failures are not kept. */
  once(token: string, task: () => Promise<T>): Promise<T> {
    if (token === "") {
      return task();
    }
    const known = this.#kept.get(token);
    if (known !== undefined && known.expiresMs > this.#clock.nowMs()) {
      return known.answer;
    }
    const answer = task();
    remember(this.#kept, token, { answer, expiresMs: this.#clock.nowMs() + tokenLifetimeMs }, mostTokens);
    answer.catch(() => this.#kept.delete(token));
    return answer;
  }
}
