/** Finding records of a table by another property than their ID. */

/** Records by the keys that they have, any number each. It is a part of its table, and changes with it. */
export class TableIndex<T> {
  readonly #idOf: (record: T) => string;
  readonly #keysOf: (record: T) => Iterable<string>;
  readonly #records = new Map<string, Map<string, T>>();

  constructor(idOf: (record: T) => string, keysOf: (record: T) => Iterable<string>) {
    this.#idOf = idOf;
    this.#keysOf = keysOf;
  }

  /** The records that have the key; a record stays in its place while it has it. */
  get(key: string): readonly T[] {
    return [...(this.#records.get(key)?.values() ?? [])];
  }

  /** Number of the records that have the key. */
  count(key: string): number {
    return this.#records.get(key)?.size ?? 0;
  }

  /** One version of a record takes the place of another; undefined: there was none, there is none any more. */
  replace(before: T | undefined, after: T | undefined): void {
    const kept = new Set(after === undefined ? [] : this.#keysOf(after));
    for (const key of before === undefined ? [] : this.#keysOf(before)) {
      if (before !== undefined && !kept.has(key)) {
        this.#remove(key, this.#idOf(before));
      }
    }
    for (const key of kept) {
      if (after !== undefined) {
        this.#add(key, after);
      }
    }
  }

  #add(key: string, record: T): void {
    const records = this.#records.get(key) ?? new Map<string, T>();
    records.set(this.#idOf(record), record);
    this.#records.set(key, records);
  }

  #remove(key: string, id: string): void {
    const records = this.#records.get(key);
    records?.delete(id);
    if (records?.size === 0) {
      this.#records.delete(key);
    }
  }
}
