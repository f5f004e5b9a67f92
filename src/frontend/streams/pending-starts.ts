/**
 * Pending starts. A start whose backend died is retried with the next backend, unless an attachment to its container
 * was lost as well: that client, possibly the same, got an error, and nothing may run whose output somebody waits for
 * in vain. Nor is a start answered with success without such output: clients ignore the error of an attachment.
 */

/** A pending start. */
export interface PendingStart extends Disposable {
  /** Whether an attachment to its container was lost meanwhile. */
  readonly hasLostOutput: boolean;
  /**
   * The backend has started the container: attachments that are not open yet fail from now on instead of being retried.
   *
   * @returns once each of these that the container's agent was to wait for is open or lost
   */
  begun(): Promise<void>;
}

/** An attachment that is being opened; disposed once it is open or lost. */
export interface PendingAttachment extends Disposable {
  /** The agent that is to wait for it is known. */
  served(): void;
}

/** Pending starts of one frontend. */
export class PendingStarts {
  readonly #starts = new Set<{ readonly container: string; hasLostOutput: boolean; hasBegun: boolean }>();
  /** Attachments whose agent is known. */
  readonly #served = new Set<{ readonly id: string; readonly name: string; readonly over: Promise<void> }>();

  /** Registers a start until it is answered. @param container as the client names it */
  begin(container: string): PendingStart {
    const start = {
      container,
      hasLostOutput: false,
      hasBegun: false,
      begun: async () => {
        start.hasBegun = true;
        const served = [...this.#served].filter(({ id, name }) => isNamed(container, id, name));
        await Promise.all(served.map(({ over }) => over));
      },
      [Symbol.dispose]: () => void this.#starts.delete(start),
    };
    this.#starts.add(start);
    return start;
  }

  /** Registers an attachment. @param name the container's name in its request */
  attach(id: string, name: string): PendingAttachment {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const attachment = { id, name, over };
    return {
      served: () => void this.#served.add(attachment),
      [Symbol.dispose]: () => {
        this.#served.delete(attachment);
        resolve();
      },
    };
  }

  /** Whether a start of a container has not begun. @param name the container's name in an attachment's request */
  isPending(id: string, name: string): boolean {
    return this.#of(id, name).some(({ hasBegun }) => !hasBegun);
  }

  /** Reports a lost attachment. @param name the container's name in its request */
  loseOutput(id: string, name: string): void {
    for (const start of this.#of(id, name)) {
      start.hasLostOutput = true;
    }
  }

  #of(id: string, name: string) {
    return [...this.#starts].filter(({ container }) => isNamed(container, id, name));
  }
}

/** Whether a client's name of a container is that of an attachment's. @param name the one in its request */
export function isNamed(container: string, id: string, name: string): boolean {
  return container === name || id.startsWith(container);
}
