/**
 * Pending starts. A start whose backend died is retried with the next backend, unless an attachment to its container
 * was lost as well: that client, possibly the same, got an error, and nothing may run whose output somebody waits for
 * in vain.
 */

/** A pending start. */
export interface PendingStart extends Disposable {
  /** Whether an attachment to its container was lost meanwhile. */
  readonly hasLostOutput: boolean;
}

/** Pending starts of one frontend. */
export class PendingStarts {
  readonly #starts = new Set<{ readonly container: string; hasLostOutput: boolean }>();

  /** Registers a start until it is answered. @param container as the client names it */
  begin(container: string): PendingStart {
    const start = {
      container,
      hasLostOutput: false,
      [Symbol.dispose]: () => void this.#starts.delete(start),
    };
    this.#starts.add(start);
    return start;
  }

  /** Reports a lost attachment. @param names the container's ID, and its name in the client's request */
  loseOutput(...[id, name]: readonly [id: string, name: string]): void {
    for (const start of this.#starts) {
      start.hasLostOutput ||= start.container === name || id.startsWith(start.container);
    }
  }
}
