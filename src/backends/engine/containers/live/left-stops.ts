/** Stops and kills of a container whose clients have left. */
import { unavailable } from "../../../../common/errors.ts";
import { onAbort } from "../../../../common/on-abort.ts";

interface LeftStop {
  readonly deadlineMs: number;
  readonly superseded: AbortController;
}

/**
 * The stops and kills of one container whose clients have left: the one that kills first goes on, as the others would
 * find its work done. A client may leave any number behind, each with hours of time.
 */
export class LeftStops {
  #first: LeftStop | undefined;

  /**
   * Adds a stop or kill, until the result is disposed.
   *
   * @param deadlineMs its time to kill, in milliseconds since the epoch
   * @returns with a signal that aborts once its client has left and another such call goes on
   */
  add(deadlineMs: number, left: AbortSignal): Disposable & { readonly superseded: AbortSignal } {
    const own = { deadlineMs, superseded: new AbortController() };
    const leaving = onAbort(left, () => {
      const first = this.#first;
      if (first !== undefined && first.deadlineMs <= deadlineMs) {
        supersede(own);
      } else {
        this.#first = own;
        if (first !== undefined) {
          supersede(first);
        }
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

function supersede({ superseded }: LeftStop): void {
  superseded.abort(unavailable("another stop or kill of the container goes on"));
}
