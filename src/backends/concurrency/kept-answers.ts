/** Answers that are kept for a time: who asks meanwhile shares them. */
import type { Clock } from "../../common/clock.ts";
import { remember } from "../../common/forget-oldest.ts";

/** Answers of one kind, by key. */
export class KeptAnswers<T> {
  readonly #kept = new Map<string, { readonly answer: Promise<T>; readonly untilMs: number }>();
  readonly #clock: Clock;
  readonly #lifetimeMs: number;
  readonly #most: number;

  /** @param most answers that are kept; of more the oldest is dropped */
  constructor(clock: Clock, lifetimeMs: number, most: number) {
    this.#clock = clock;
    this.#lifetimeMs = lifetimeMs;
    this.#most = most;
  }

  /** The kept answer, finished or not, or a new one. Failures are not kept. */
  of(key: string, ask: () => Promise<T>): Promise<T> {
    const known = this.#kept.get(key);
    if (known !== undefined && this.#clock.nowMs() < known.untilMs) {
      return known.answer;
    }
    const answer = ask();
    remember(this.#kept, key, { answer, untilMs: this.#clock.nowMs() + this.#lifetimeMs }, this.#most);
    answer.catch(() => this.#kept.delete(key));
    return answer;
  }
}
