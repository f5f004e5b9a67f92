/** Those who wait for a container to exit or to be gone. */
import { onAbort } from "../../../../common/on-abort.ts";

/** The end of a container, as a waiter is told it. */
export interface WaitResult {
  readonly exitCode: number;
  /** Reason of an end that is no exit; empty: it exited. */
  readonly error: string;
}

interface Waiter {
  readonly resolve: (result: WaitResult) => void;
}

/** The waiters of one container. */
export class Waiters {
  readonly #forExit = new Set<Waiter>();
  readonly #forRemoval = new Set<Waiter>();

  /** The next exit, or the removal of a container that does not exit before. Rejects with the signal's reason. */
  nextExit(signal: AbortSignal): Promise<WaitResult> {
    return wait(this.#forExit, signal);
  }

  /** The removal. Rejects with the signal's reason. */
  removal(signal: AbortSignal): Promise<WaitResult> {
    return wait(this.#forRemoval, signal);
  }

  /** Tells those who wait for an exit. */
  tellExit(result: WaitResult): void {
    tell(this.#forExit, result);
  }

  /** Tells everybody: a container that is gone will not exit any more. */
  tellRemoval(result: WaitResult): void {
    tell(this.#forExit, result);
    tell(this.#forRemoval, result);
  }
}

async function wait(waiters: Set<Waiter>, signal: AbortSignal): Promise<WaitResult> {
  const waiter = Promise.withResolvers<WaitResult>();
  waiters.add(waiter);
  using _leaving = onAbort(signal, () => {
    waiters.delete(waiter);
    waiter.reject(signal.reason);
  });
  return await waiter.promise;
}

function tell(waiters: Set<Waiter>, result: WaitResult): void {
  const told = [...waiters];
  waiters.clear();
  for (const waiter of told) {
    waiter.resolve(result);
  }
}
