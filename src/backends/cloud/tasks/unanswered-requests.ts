/** Requests for tasks whose starts ended before the cloud's answer, which cleanup waits for. */

/** The late outcome of a request: a task; `none` for certain, as after a refusal; or unknown. */
export type LateAnswer = { readonly task: string } | "none" | "unknown";

/** Unanswered requests by container ID. */
export class UnansweredRequests {
  readonly #answers = new Map<string, Promise<LateAnswer>>();

  /** Adds the pending request of an ended start. @param answer never rejects */
  leave(containerId: string, answer: Promise<LateAnswer>): void {
    this.#answers.set(containerId, answer);
  }

  /**
   * Records that a start ended after one of its answers was lost: a task may exist, even if its last request created
   * none.
   */
  leaveInDoubt(containerId: string): void {
    const last = this.#answers.get(containerId);
    this.leave(
      containerId,
      Promise.resolve(last).then((answer = "none") => (answer === "none" ? "unknown" : answer)),
    );
  }

  /** The answer, kept until {@link forget}; "none" if there is no request. */
  async answerTo(containerId: string): Promise<LateAnswer> {
    return (await this.#answers.get(containerId)) ?? "none";
  }

  /** Drops a request whose outcome is known. */
  forget(containerId: string): void {
    this.#answers.delete(containerId);
  }
}
