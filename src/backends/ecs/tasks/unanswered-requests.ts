/** Tasks that AWS was asked for by starts which have ended before its answer: whoever cleans up behind them waits for it. */

/** What AWS has answered; undefined: nobody knows, so that there may be a task. */
export type LateAnswer = { readonly arn: string } | undefined;

/** The requests that are still to be answered, by their containers' IDs. */
export class UnansweredRequests {
  readonly #answers = new Map<string, Promise<LateAnswer>>();

  /** A start has ended before the answer to its request for a task. @param arn rejects where there is no answer */
  leave(containerId: string, arn: Promise<string | undefined>): void {
    const answer = arn.then(
      (told) => (told === undefined ? undefined : { arn: told }),
      () => undefined,
    );
    this.#answers.set(containerId, answer);
  }

  /** Whether there is a request of the container's that its start has left unanswered. */
  has(containerId: string): boolean {
    return this.#answers.has(containerId);
  }

  /** The answer to it; it stays until {@link forget}. */
  async answerTo(containerId: string): Promise<LateAnswer> {
    return await this.#answers.get(containerId);
  }

  /** What AWS has made of it is known. */
  forget(containerId: string): void {
    this.#answers.delete(containerId);
  }
}
