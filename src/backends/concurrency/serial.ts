/** Locks for work that must not interleave on one container, volume or name. */

/** Runs tasks one after the other, in order of arrival. */
export class Lock {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs the task after all earlier ones have ended, successfully or not. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

/** A lock for each key, kept while it is in use. */
export class KeyedLocks {
  readonly #locks = new Map<string, { readonly lock: Lock; users: number }>();

  /** Like {@link Lock.run}, for tasks with the same key. */
  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const entry = this.#locks.get(key) ?? { lock: new Lock(), users: 0 };
    this.#locks.set(key, entry);
    entry.users += 1;
    try {
      return await entry.lock.run(task);
    } finally {
      entry.users -= 1;
      if (entry.users === 0) {
        this.#locks.delete(key);
      }
    }
  }
}
