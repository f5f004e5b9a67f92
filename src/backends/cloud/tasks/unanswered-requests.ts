/** Tasks that the cloud was asked for by starts which have ended before its answer: whoever cleans up behind them waits for it. */

/** The outcome of a request, told late: a task; `none` for certain, as after a refusal; or not known. */
export type LateAnswer = { readonly task: string } | "none" | "unknown";

/** The requests that are still to be answered, by their containers' IDs. */
export class UnansweredRequests {
  readonly #answers = new Map<string, Promise<LateAnswer>>();

  /** A start has ended before the answer to its request for a task. @param answer never rejects */
  leave(containerId: string, answer: Promise<LateAnswer>): void {
    this.#answers.set(containerId, answer);
  }

  /**
   * Notes that a start has ended after the answer to one of its requests was lost: a task may exist, even if
   * its last request made none.
   */
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

  /** Forgets a request whose outcome is known. */
  forget(containerId: string): void {
    this.#answers.delete(containerId);
  }
}
