/** Records of one kind, all in memory for reading. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";

import type { Operation } from "./database.ts";
import { recordKey, type TableName } from "./keys.ts";
import { creatorOf } from "../model/inner-socket-labels.ts";
import { PrefixIndex, TableIndex } from "./table-index.ts";
import { Weights } from "./weights.ts";

/** The committed records of one kind. Records are shared with all readers: to change one, commit a copy. */
export interface Table<T> {
  readonly size: number;
  get(id: string): T | undefined;
  has(id: string): boolean;
  values(): IterableIterator<T>;
  keys(): IterableIterator<string>;
}

/** A table without what only its state calls. */
export type ForReaders<Records> = Omit<Records, "name" | "load" | "changeInto">;

/** Changes to a table within a batch. */
export interface TableChange<T> {
  /** Inserts a record, or replaces the one with its ID. */
  put(record: T): void;
  /** Removes a record, if it exists. */
  delete(id: string): void;
}

/**
 * Undoes one step of a change, for readers unless a later change has replaced it.
 *
 * @returns the operation that restores the previous record in the database
 */
export type Undo = () => Operation;

/** The steps of a change to the tables, and how to undo each. */
export interface Steps {
  readonly operations: Operation[];
  readonly undo: Undo[];
  /** Tables with new records. */
  readonly grows: Set<TableName>;
  /** Reasons, in words, why tables hold too much for what the change adds. */
  readonly overfills: Set<string>;
}

type LabelsOf<T> = (record: T) => Readonly<Record<string, string>> | undefined;

interface TableOptions<T> {
  readonly order?: "made" | "changed";
  readonly labelsOf?: LabelsOf<T>;
  readonly weighed?: (record: T) => unknown;
}

/** A table that turns changes into operations on the database. */
export class RecordTable<Desc extends DescMessage> implements Table<MessageShape<Desc>> {
  readonly name: TableName;
  readonly #records = new Map<string, MessageShape<Desc>>();
  /** The last accepted record before each refused one that a later change has replaced: an undo goes back to it. */
  readonly #refused = new WeakMap<MessageShape<Desc>, MessageShape<Desc> | undefined>();
  readonly #schema: Desc;
  readonly #idOf: (record: MessageShape<Desc>) => string;
  readonly #order: "made" | "changed";
  readonly #labelsOf: LabelsOf<MessageShape<Desc>> | undefined;
  readonly #weighed: ((record: MessageShape<Desc>) => unknown) | undefined;
  readonly #weights: Weights | undefined;
  readonly #indexes: TableIndex<MessageShape<Desc>>[] = [];

  /**
   * @param order of the records: by creation, or by last change; loaded records have no order
   * @param labelsOf labels of records that clients make, for their creator
   * @param weighed the part of a record that is weighed; default: the whole record where `labelsOf` is given
   */
  constructor(
    name: TableName,
    schema: Desc,
    idOf: (record: MessageShape<Desc>) => string,
    {
      order = "made",
      labelsOf,
      weighed = labelsOf && ((record) => record),
    }: TableOptions<MessageShape<Desc>> = {},
  ) {
    this.name = name;
    this.#schema = schema;
    this.#idOf = idOf;
    this.#order = order;
    this.#labelsOf = labelsOf;
    this.#weighed = weighed;
    this.#weights = weighed && new Weights(`${name}s`);
  }

  get size(): number {
    return this.#records.size;
  }

  get(id: string): MessageShape<Desc> | undefined {
    return this.#records.get(id);
  }

  has(id: string): boolean {
    return this.#records.has(id);
  }

  values(): IterableIterator<MessageShape<Desc>> {
    return this.#records.values();
  }

  keys(): IterableIterator<string> {
    return this.#records.keys();
  }

  /** Loads a record from the database; throws if the ID in it differs. */
  load(id: string, value: Uint8Array): void {
    const record = fromBinary(this.#schema, value);
    if (this.#idOf(record) !== id) {
      throw new Error("the record carries another ID");
    }
    this.#set(id, record);
  }

  /** Changes the records for readers, and adds the operations that make the change durable. */
  changeInto({ operations, undo, grows, overfills }: Steps): TableChange<MessageShape<Desc>> {
    return {
      put: (record) => {
        const id = this.#idOf(record);
        const before = this.#records.get(id);
        operations.push(this.#operationOf(id, record));
        if (before === undefined) {
          grows.add(this.name);
        }
        this.#refused.delete(record);
        undo.push(() => {
          const last = this.#lastNotRefused(before);
          if (this.#records.get(id) === record) {
            this.#restore(id, last);
          } else if (last !== record) {
            this.#refused.set(record, last);
          }
          return this.#operationOf(id, last);
        });
        const excess = this.#set(id, record);
        if (excess !== undefined) {
          overfills.add(excess);
        }
      },
      delete: (id) => {
        const before = this.#records.get(id);
        if (before !== undefined) {
          this.#remove(id, before);
          operations.push(this.#operationOf(id, undefined));
          undo.push(() => {
            const last = this.#lastNotRefused(before);
            if (!this.#records.has(id)) {
              this.#restore(id, last);
            }
            return this.#operationOf(id, last);
          });
        }
      },
    };
  }

  /** Adds an index by a property other than the ID, which changes with the table; before the first record. */
  protected indexed(
    keysOf: (record: MessageShape<Desc>) => Iterable<string>,
  ): TableIndex<MessageShape<Desc>> {
    return this.#added(new TableIndex(this.#idOf, keysOf));
  }

  /** As {@link indexed}, by what IDs begin with. */
  protected indexedByPrefix(): PrefixIndex<MessageShape<Desc>> {
    return this.#added(new PrefixIndex(this.#idOf));
  }

  #added<Index extends TableIndex<MessageShape<Desc>>>(index: Index): Index {
    this.#indexes.push(index);
    return index;
  }

  /** Called for every change once readers see it. */
  protected replaced(before: MessageShape<Desc> | undefined, after: MessageShape<Desc> | undefined): void {
    for (const index of this.#indexes) {
      index.replace(before, after);
    }
  }

  /** @returns the reason, in words, why the table holds too much for it */
  #set(id: string, record: MessageShape<Desc>): string | undefined {
    const before = this.#records.get(id);
    if (this.#order === "changed") {
      this.#records.delete(id);
    }
    this.#records.set(id, record);
    this.replaced(before, record);
    return this.#weights?.set(id, this.#weighed?.(record), creatorOf(this.#labelsOf?.(record) ?? {}));
  }

  #remove(id: string, before: MessageShape<Desc>): void {
    this.#records.delete(id);
    this.#weights?.delete(id);
    this.replaced(before, undefined);
  }

  /** The operation after which the database has a record; undefined: none. */
  #operationOf(id: string, record: MessageShape<Desc> | undefined): Operation {
    const key = recordKey(this.name, id);
    return record === undefined
      ? { type: "del", key }
      : { type: "put", key, value: toBinary(this.#schema, record) };
  }

  #lastNotRefused(record: MessageShape<Desc> | undefined): MessageShape<Desc> | undefined {
    let last = record;
    while (last !== undefined && this.#refused.has(last)) {
      last = this.#refused.get(last);
    }
    return last;
  }

  #restore(id: string, before: MessageShape<Desc> | undefined): void {
    const after = this.#records.get(id);
    if (before !== undefined) {
      this.#set(id, before);
    } else if (after !== undefined) {
      this.#remove(id, after);
    }
  }
}
