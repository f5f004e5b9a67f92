/** A name that may need a change. */
export interface NameChange {
  /** Ends with a point and its network. */
  readonly name: string;
  /** Number of consecutive failures. */
  readonly attempts: number;
  /** Time of the next attempt; 0: at once. */
  readonly dueMs: number;
}

/** Changes of names on one network that wait for the same, in the order of their times. */
interface Queue<Kind> {
  readonly key: string;
  /** The kind of call whose pause they wait for. */
  readonly kind: Kind | undefined;
  readonly changes: Map<string, NameChange>;
}

/**
 * Names that may need a change, in a queue for each network: those that wait for the end of a kind of call's pause, and
 * the others by their failures. Networks take turns, so that many names on one do not hold up those on others, and the
 * next change is the first of a queue, however many there are.
 */
export class NameChanges<Kind extends string> {
  /** By key; the one whose turn was last is the last. */
  readonly #queues = new Map<string, Queue<Kind>>();
  /** The queue that each name is in. */
  readonly #places = new Map<string, Queue<Kind>>();
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
    const { name, attempts } = change;
    this.#remove(name);
    const key = `${kind ?? attempts}${name.slice(name.lastIndexOf("."))}`;
    const queue = this.#queues.get(key) ?? { key, kind, changes: new Map<string, NameChange>() };
    this.#queues.set(key, queue);
    queue.changes.set(name, change);
    this.#places.set(name, queue);
  }

  /** Removes a name, whose queue's turn is over. */
  delete(name: string): void {
    const queue = this.#remove(name);
    if (queue !== undefined && queue.changes.size > 0) {
      this.#queues.delete(queue.key);
      this.#queues.set(queue.key, queue);
    }
  }

  /** The change whose turn it is among those that are due, else the one that is due first. */
  next(nowMs: number): NameChange | undefined {
    let next: NameChange | undefined;
    for (const { kind, changes } of this.#queues.values()) {
      const [first] = changes.values();
      if (first !== undefined) {
        const dueMs = Math.max(nowMs, kind === undefined ? first.dueMs : this.#untilMs(kind));
        next = next === undefined || dueMs < next.dueMs ? { ...first, dueMs } : next;
      }
    }
    return next;
  }

  #remove(name: string): Queue<Kind> | undefined {
    const queue = this.#places.get(name);
    this.#places.delete(name);
    queue?.changes.delete(name);
    if (queue?.changes.size === 0) {
      this.#queues.delete(queue.key);
    }
    return queue;
  }
}
