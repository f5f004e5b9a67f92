/** Tasks that AWS was asked for by starts which have ended before its answer: whoever cleans up behind them waits for it. */

/** What AWS has made of a request: a task, or none for certain, as after a refusal; or nobody knows. */
export type LateAnswer = { readonly arn: string } | "none" | "unknown";

/** The requests that are still to be answered, by their containers' IDs. */
export class UnansweredRequests {
  readonly #answers = new Map<string, Promise<LateAnswer>>();

  /** A start has ended before the answer to its request for a task. @param answer never rejects */
  leave(containerId: string, answer: Promise<LateAnswer>): void {
    this.#answers.set(containerId, answer);
  }

  /** A start has ended, and the answer to an earlier one of its requests was lost: that its last has made none says nothing. */
  leaveInDoubt(containerId: string): void {
    const last = this.#answers.get(containerId);
    this.leave(
      containerId,
      Promise.resolve(last).then((answer = "none") => (answer === "none" ? "unknown" : answer)),
    );
  }

  /** The answer to it, which stays until {@link forget}; "none" where no request is left. */
  async answerTo(containerId: string): Promise<LateAnswer> {
    return (await this.#answers.get(containerId)) ?? "none";
  }

  /** What AWS has made of it is known. */
  forget(containerId: string): void {
    this.#answers.delete(containerId);
  }
}
