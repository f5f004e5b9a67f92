/** Idempotency tokens: a request that is repeated because its answer was lost gets the first one's answer. */
import type { Clock } from "../../../../common/clock.ts";
import { KeptAnswers } from "../../../concurrency/kept-answers.ts";

/** Milliseconds for which an answer is kept. */
export const tokenLifetimeMs = 3_600_000;
/** Maximum number of kept answers; the oldest is dropped first. */
const mostTokens = 10_000;

/** Answers to requests of one kind, by client token. */
export class ClientTokens<T> {
  readonly #kept: KeptAnswers<T>;

  constructor(clock: Clock) {
    this.#kept = new KeptAnswers(clock, tokenLifetimeMs, mostTokens);
  }

  /** Answers like the first request with the same token, finished or not. Failures are not kept. */
  once(token: string, task: () => Promise<T>): Promise<T> {
    return token === "" ? task() : this.#kept.of(token, task);
  }
}
