/** Those who wait for a container to exit or to be gone. */

/** What a waiter is told. */
export interface WaitResult {
  readonly exitCode: number;
  /** Why it came about otherwise than by an exit; empty: it exited. */
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

function wait(waiters: Set<Waiter>, signal: AbortSignal): Promise<WaitResult> {
  const { promise, resolve, reject } = Promise.withResolvers<WaitResult>();
  const abort = (): void => {
    waiters.delete(waiter);
    reject(signal.reason);
  };
  const waiter: Waiter = {
    resolve: (result) => {
      signal.removeEventListener("abort", abort);
      resolve(result);
    },
  };
  if (signal.aborted) {
    reject(signal.reason);
    return promise;
  }
  waiters.add(waiter);
  signal.addEventListener("abort", abort, { once: true });
  return promise;
}

function tell(waiters: Set<Waiter>, result: WaitResult): void {
  const told = [...waiters];
  waiters.clear();
  for (const waiter of told) {
    waiter.resolve(result);
  }
}
