/** Locks for work that must not interleave on one container, volume or name. */
import { Limiter } from "./limiter.ts";

/** A lock for each key: runs tasks with the same key one after the other, in order of arrival. */
export class KeyedLocks {
  readonly #turns = new Limiter(1);

  /** Whether a task with the key is running. */
  isHeld(key: string): boolean {
    return this.#turns.isTaken(key);
  }

  /**
   * Runs the task after all earlier ones with the key have ended, successfully or not.
   *
   * @param signal ends the wait, and keeps nothing of the task then; a task that has begun goes on
   * @throws the signal's reason; the task's errors
   */
  async run<T>(key: string, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    using _turn = await this.#turns.acquire(key, signal);
    return await task();
  }
}

/** One lock. */
export class Lock {
  readonly #locks = new KeyedLocks();

  get isHeld(): boolean {
    return this.#locks.isHeld("");
  }

  /** As {@link KeyedLocks.run}. */
  run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#locks.run("", task, signal);
  }
}
