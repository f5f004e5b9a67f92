/** A name that may need a change. */
export interface NameChange {
  readonly name: string;
  /** Number of consecutive failures. */
  readonly attempts: number;
  /** Time of the next attempt; 0: at once. */
  readonly dueMs: number;
}

/**
 * Names that may need a change, in queues: those that wait for the end of a kind of call's pause, and the others by
 * their failures. Each queue is in the order of its times, so that the next change is the first of one of them, however
 * many there are.
 */
export class NameChanges<Kind extends string> {
  readonly #queues = new Map<Kind | number, Map<string, NameChange>>();
  /** The queue that each name is in. */
  readonly #places = new Map<string, Map<string, NameChange>>();
  readonly #untilMs: (kind: Kind) => number;

  /** @param untilMs the end of a kind's pause; 0: it does not pause */
  constructor(untilMs: (kind: Kind) => number) {
    this.#untilMs = untilMs;
  }

  get size(): number {
    return this.#places.size;
  }

  has(name: string): boolean {
    return this.#places.has(name);
  }

  /** Adds a name, or moves it. @param kind the kind of call whose pause it waits for */
  put(change: NameChange, kind?: Kind): void {
    this.delete(change.name);
    const key = kind ?? change.attempts;
    const queue = this.#queues.get(key) ?? new Map<string, NameChange>();
    this.#queues.set(key, queue.set(change.name, change));
    this.#places.set(change.name, queue);
  }

  delete(name: string): void {
    this.#places.get(name)?.delete(name);
    this.#places.delete(name);
  }

  /** The change that is due first. */
  next(): NameChange | undefined {
    let next: NameChange | undefined;
    for (const [key, queue] of this.#queues) {
      const [first] = queue.values();
      if (first !== undefined) {
        const dueMs = typeof key === "number" ? first.dueMs : this.#untilMs(key);
        next = next === undefined || dueMs < next.dueMs ? { ...first, dueMs } : next;
      }
    }
    return next;
  }
}
