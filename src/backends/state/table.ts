/** One kind of record, all of it in memory for reading. */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";

import type { Operation } from "./database.ts";
import { recordKey, type TableName } from "./keys.ts";

/**
 * The records of one kind as committed last. Records are shared with everyone who asks: to change one, commit a copy.
 */
export interface Table<T> {
  readonly size: number;
  get(id: string): T | undefined;
  has(id: string): boolean;
  values(): IterableIterator<T>;
  keys(): IterableIterator<string>;
}

/** Changes to one table within a batch. */
export interface TableChange<T> {
  /** Adds a record, or replaces the one of the same ID. */
  put(record: T): void;
  /** Removes a record; one that is not there is no error. */
  delete(id: string): void;
}

/**
 * Takes one step of a change back, unless another change has come after it.
 *
 * @returns the operation by which the database has what was there before; undefined: another change has it
 */
export type Undo = () => Operation | undefined;

/** Steps of a change to the tables, and how each is taken back. */
export interface Steps {
  readonly operations: Operation[];
  readonly undo: Undo[];
  /** Tables that get records which they did not have. */
  readonly grows: Set<TableName>;
}

/** A table that turns changes into operations on the database. */
export class RecordTable<Desc extends DescMessage> implements Table<MessageShape<Desc>> {
  readonly name: TableName;
  readonly #records = new Map<string, MessageShape<Desc>>();
  readonly #schema: Desc;
  readonly #idOf: (record: MessageShape<Desc>) => string;
  readonly #order: "made" | "changed";

  /** @param order of the records: by when they were made, or changed last; those that were loaded are in no order */
  constructor(
    name: TableName,
    schema: Desc,
    idOf: (record: MessageShape<Desc>) => string,
    order: "made" | "changed" = "made",
  ) {
    this.name = name;
    this.#schema = schema;
    this.#idOf = idOf;
    this.#order = order;
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

  /** Takes in a record as read from the database; throws where it is not one of this table under that ID. */
  load(id: string, value: Uint8Array): void {
    const record = fromBinary(this.#schema, value);
    if (this.#idOf(record) !== id) {
      throw new Error("the record carries another ID");
    }
    this.#set(id, record);
  }

  /** Changes what readers see and adds the operations that make it durable. */
  changeInto({ operations, undo, grows }: Steps): TableChange<MessageShape<Desc>> {
    return {
      put: (record) => {
        const id = this.#idOf(record);
        const before = this.#records.get(id);
        operations.push(this.#putOperation(id, record));
        if (before === undefined) {
          grows.add(this.name);
        }
        undo.push(() => (this.#records.get(id) === record ? this.#restore(id, before) : undefined));
        this.#set(id, record);
      },
      delete: (id) => {
        const before = this.#records.get(id);
        if (before !== undefined) {
          operations.push(this.#remove(id, before));
          undo.push(() => (this.#records.has(id) ? undefined : this.#restore(id, before)));
        }
      },
    };
  }

  /** Takes note of every change once readers see it; for indexes. */
  protected replaced(_before: MessageShape<Desc> | undefined, _after: MessageShape<Desc> | undefined): void {}

  #set(id: string, record: MessageShape<Desc>): void {
    const before = this.#records.get(id);
    if (this.#order === "changed") {
      this.#records.delete(id);
    }
    this.#records.set(id, record);
    this.replaced(before, record);
  }

  #remove(id: string, before: MessageShape<Desc>): Operation {
    this.#records.delete(id);
    this.replaced(before, undefined);
    return { type: "del", key: recordKey(this.name, id) };
  }

  #putOperation(id: string, record: MessageShape<Desc>): Operation {
    return { type: "put", key: recordKey(this.name, id), value: toBinary(this.#schema, record) };
  }

  #restore(id: string, before: MessageShape<Desc> | undefined): Operation {
    if (before !== undefined) {
      this.#set(id, before);
      return this.#putOperation(id, before);
    }
    const after = this.#records.get(id);
    return after === undefined ? { type: "del", key: recordKey(this.name, id) } : this.#remove(id, after);
  }
}
