/** Stops of a container whose clients have left. */
import { onAbort } from "../../../../common/on-abort.ts";

interface LeftStop {
  readonly deadlineMs: number;
  readonly superseded: AbortController;
}

/**
 * The stops of one container whose clients have left: the one that kills first goes on, as the others would find its
 * work done. A client may leave any number behind, each with hours of time.
 */
export class LeftStops {
  #first: LeftStop | undefined;

  /**
   * Adds a stop, until the result is disposed.
   *
   * @param deadlineMs its time to kill, in milliseconds since the epoch
   * @returns with a signal that aborts once its client has left and another such stop goes on
   */
  add(deadlineMs: number, left: AbortSignal): Disposable & { readonly superseded: AbortSignal } {
    const own = { deadlineMs, superseded: new AbortController() };
    const leaving = onAbort(left, () => {
      const first = this.#first;
      if (first !== undefined && first.deadlineMs <= deadlineMs) {
        own.superseded.abort();
      } else {
        this.#first = own;
        first?.superseded.abort();
      }
    });
    return {
      superseded: own.superseded.signal,
      [Symbol.dispose]: () => {
        leaving[Symbol.dispose]();
        this.#first = this.#first === own ? undefined : this.#first;
      },
    };
  }
}
