/** Waiters for a container's exit or removal. */
import { onAbort } from "../../../../common/on-abort.ts";

/** The end of a container, as reported to waiters. */
export interface WaitResult {
  readonly exitCode: number;
  /** The reason if the process did not simply exit; empty if it did. */
  readonly error: string;
}

interface Waiter {
  /** Ends the wait. */
  readonly signal: AbortSignal;
  readonly resolve: (result: WaitResult) => void;
}

/** The waiters of one container. */
export class Waiters {
  readonly #forExit = new Set<Waiter>();
  readonly #forRemoval = new Set<Waiter>();

  /** Waits for the next exit, or the removal of a container that does not run. Rejects with the signal's reason. */
  nextExit(signal: AbortSignal): Promise<WaitResult> {
    return wait(this.#forExit, signal);
  }

  /** Whether someone waits for the removal, and for nothing else. */
  get awaitRemoval(): boolean {
    return this.#forRemoval.size > 0;
  }

  /** Waits for the removal. Rejects with the signal's reason. */
  removal(signal: AbortSignal): Promise<WaitResult> {
    return wait(this.#forRemoval, signal);
  }

  /**
   * Notifies current waiters of an exit, once it is recorded. Readers of the state see the exit before it is durable,
   * so a waiter registered meanwhile waits for the next one.
   *
   * @throws the error if it could not be recorded: the waiters keep waiting
   */
  async notifyExit(recorded: Promise<void>, result: WaitResult): Promise<void> {
    const told = [...this.#forExit];
    this.#forExit.clear();
    try {
      await recorded;
    } catch (error) {
      for (const waiter of told.filter(({ signal }) => !signal.aborted)) {
        this.#forExit.add(waiter);
      }
      throw error;
    }
    for (const { resolve } of told) {
      resolve(result);
    }
  }

  /** Notifies all waiters: a removed container will not exit any more. */
  notifyRemoval(result: WaitResult): void {
    tell(this.#forExit, result);
    tell(this.#forRemoval, result);
  }
}

async function wait(waiters: Set<Waiter>, signal: AbortSignal): Promise<WaitResult> {
  const waiter = { ...Promise.withResolvers<WaitResult>(), signal };
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
