/** Lookup of a table's records by a property other than the ID. */
import { getOrInsert } from "../../common/get-or-insert.ts";

/** Records by their keys, of which each may have any number. Part of its table, and changed together with it. */
export class TableIndex<T> {
  readonly #idOf: (record: T) => string;
  readonly #keysOf: (record: T) => Iterable<string>;
  readonly #records = new Map<string, Map<string, T>>();

  constructor(idOf: (record: T) => string, keysOf: (record: T) => Iterable<string>) {
    this.#idOf = idOf;
    this.#keysOf = keysOf;
  }

  /** The records with the key; a record keeps its position while it has the key. */
  get(key: string): readonly T[] {
    return [...(this.#records.get(key)?.values() ?? [])];
  }

  /** Number of the records that have the key. */
  count(key: string): number {
    return this.#records.get(key)?.size ?? 0;
  }

  /** Replaces a version of a record; undefined before an insertion, and after a deletion. */
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
    getOrInsert(this.#records, key, () => new Map<string, T>()).set(this.#idOf(record), record);
  }

  #remove(key: string, id: string): void {
    const records = this.#records.get(key);
    records?.delete(id);
    if (records?.size === 0) {
      this.#records.delete(key);
    }
  }
}

/** Digits of the longest beginning of IDs that is a key. */
const indexedDigits = 3;

/** Records by what their IDs begin with. */
export class PrefixIndex<T> extends TableIndex<T> {
  readonly #idOfRecord: (record: T) => string;

  constructor(idOf: (record: T) => string) {
    super(idOf, (record) =>
      Array.from({ length: indexedDigits }, (_, index) => idOf(record).slice(0, index + 1)),
    );
    this.#idOfRecord = idOf;
  }

  /** The records whose IDs begin with a prefix, which is not empty. */
  startingWith(prefix: string): readonly T[] {
    return this.get(prefix.slice(0, indexedDigits)).filter((record) =>
      this.#idOfRecord(record).startsWith(prefix),
    );
  }
}
