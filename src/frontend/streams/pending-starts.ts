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

  /** Whether a start of a container is pending. @param name the container's name in an attachment's request */
  isPending(id: string, name: string): boolean {
    return this.#of(id, name).length > 0;
  }

  /** Reports a lost attachment. @param name the container's name in its request */
  loseOutput(id: string, name: string): void {
    for (const start of this.#of(id, name)) {
      start.hasLostOutput = true;
    }
  }

  #of(id: string, name: string) {
    return [...this.#starts].filter(({ container }) => container === name || id.startsWith(container));
  }
}
