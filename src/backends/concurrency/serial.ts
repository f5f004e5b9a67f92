/** Locks for work that must not interleave on one container, volume or name. */

/** Runs tasks one after the other, in order of arrival. */
export class Lock {
  /** Begin the tasks that wait. */
  readonly #waiting = new Set<() => void>();
  #isHeld: boolean = false;

  /** Whether a task is running. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /**
   * Runs the task after all earlier ones have ended, successfully or not.
   *
   * @param signal ends the wait, and keeps nothing of the task then; a task that has begun goes on
   * @throws the signal's reason; the task's errors
   */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#turn(signal);
    try {
      return await task();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) {
        this.#isHeld = false;
      } else {
        next();
      }
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> | undefined {
    signal?.throwIfAborted();
    if (!this.#isHeld) {
      this.#isHeld = true;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(begin);
        reject(signal?.reason);
      };
      const begin = (): void => {
        this.#waiting.delete(begin);
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      this.#waiting.add(begin);
      signal?.addEventListener("abort", leave, { once: true });
    });
  }
}

/** A lock for each key, kept while it is in use. */
export class KeyedLocks {
  readonly #locks = new Map<string, { readonly lock: Lock; users: number }>();

  /** Like {@link Lock.run}, for tasks with the same key. */
  async run<T>(key: string, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const entry = this.#locks.get(key) ?? { lock: new Lock(), users: 0 };
    this.#locks.set(key, entry);
    entry.users += 1;
    try {
      return await entry.lock.run(task, signal);
    } finally {
      entry.users -= 1;
      if (entry.users === 0) {
        this.#locks.delete(key);
      }
    }
  }
}
