/**
 * Starts that are asked for. One whose backend is lost is asked of the next one, but not if an attachment to its container was
 * lost as well: its client, which may be the same, has been told, and nothing runs without the output that somebody waits for.
 */

/** A start that is asked for. */
export interface AskedStart extends Disposable {
  /** Whether an attachment to its container was lost since. */
  readonly hasLostOutput: boolean;
}

/** The starts of one frontend. */
export class AskedStarts {
  readonly #starts = new Set<{ readonly container: string; hasLostOutput: boolean }>();

  /** Notes a start until it is answered. @param container as the client names it */
  begin(container: string): AskedStart {
    const start = {
      container,
      hasLostOutput: false,
      [Symbol.dispose]: () => void this.#starts.delete(start),
    };
    this.#starts.add(start);
    return start;
  }

  /** An attachment was lost. @param names the container's ID, and as the client names it */
  loseOutput(...[id, name]: readonly [id: string, name: string]): void {
    for (const start of this.#starts) {
      start.hasLostOutput ||= start.container === name || id.startsWith(start.container);
    }
  }
}
