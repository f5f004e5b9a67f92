/**
 * What a backend remembers: every record in memory for reading, every change written as one batch.
 *
 * A commit changes what readers see at once, so the check before it and the commit are one step of this process, and
 * resolves when the batch is in the database. A batch that cannot be written leaves memory ahead of the disk: from
 * then on the state refuses every commit and `failed` resolves, so that the process can end and start anew from what
 * is durable.
 */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { Event } from "../../../gen/sockerless/backend/v1/events_pb.ts";
import {
  type ContainerRecord,
  type DefinitionRecord,
  DefinitionRecordSchema,
  type ExecRecord,
  ExecRecordSchema,
  type ImageRecord,
  ImageRecordSchema,
  type NetworkRecord,
  type TaskRecord,
  TaskRecordSchema,
  type VolumeRecord,
  VolumeRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type Containers, ContainerTable } from "./container-table.ts";
import { type Database, damaged, type Operation, openDatabase } from "./database.ts";
import { type EventJournal, Journal, type NewEvent } from "./journal.ts";
import { idOfKey, instanceKey, schemaKey, tableRange } from "./keys.ts";
import { type Migration, migrations } from "./migrations.ts";
import { type Networks, NetworkTable } from "./network-table.ts";
import { RecordTable, type Table, type TableChange } from "./table.ts";

/** One change: everything in it becomes durable together or not at all. */
export interface Change {
  readonly containers: TableChange<ContainerRecord>;
  readonly execs: TableChange<ExecRecord>;
  readonly images: TableChange<ImageRecord>;
  readonly volumes: TableChange<VolumeRecord>;
  readonly networks: TableChange<NetworkRecord>;
  readonly tasks: TableChange<TaskRecord>;
  readonly definitions: TableChange<DefinitionRecord>;
  /** Journals an event; listeners hear of it once the change is durable. */
  event(event: NewEvent): void;
}

/** A backend's state. */
export interface State {
  /** Made with the database: tells this state from every other. */
  readonly instanceId: string;
  readonly containers: Containers;
  readonly execs: Table<ExecRecord>;
  readonly images: Table<ImageRecord>;
  readonly volumes: Table<VolumeRecord>;
  readonly networks: Networks;
  /** What containers run in, by the container's ID, and what their tasks are made from, by family; cloud backends only. */
  readonly tasks: Table<TaskRecord>;
  readonly definitions: Table<DefinitionRecord>;
  readonly events: EventJournal;
  /** Resolves with the reason when a batch could not be written; stays pending otherwise. */
  readonly failed: Promise<Error>;
  /** Applies a change; resolves when it is durable. `describe` must not throw half-way. */
  commit(describe: (change: Change) => void): Promise<void>;
  /** Waits for what was committed and closes the database. */
  close(): Promise<void>;
}

/** Options of {@link openState}. */
export interface StateOptions {
  /** Directory that belongs to one backend; the database is `db` in it. */
  readonly directory: string;
  readonly clock: Clock;
  /** Events to keep; for tests. */
  readonly journalLimit?: number;
  /** The schema's steps; for tests. */
  readonly migrations?: readonly Migration[];
}

/**
 * Opens the state of a backend, brings it to this version's schema and reads it into memory.
 *
 * @throws conflict: another process uses the directory; system: the database is damaged, or newer than this program
 */
export async function openState(options: StateOptions): Promise<State> {
  const database = await openDatabase(options.directory);
  try {
    await migrate(database, options);
    const state = new LevelState(database, options);
    await state.load();
    return state;
  } catch (error) {
    await database.close();
    throw error;
  }
}

async function migrate(database: Database, options: StateOptions): Promise<void> {
  const steps = options.migrations ?? migrations;
  const stored = await database.get(schemaKey);
  const done = stored === undefined ? 0 : Number(new TextDecoder().decode(stored));
  if (!Number.isSafeInteger(done) || done < 0 || (stored === undefined && !(await isEmpty(database)))) {
    throw damaged(options.directory, `no valid value at ${schemaKey}`);
  }
  if (done > steps.length) {
    throw systemError(
      `state directory ${options.directory} was written by a newer sockerless ` +
        `(schema ${done}; this one knows ${steps.length})`,
    );
  }
  for (const [index, step] of steps.entries()) {
    if (index >= done) {
      const schema = new TextEncoder().encode(String(index + 1));
      const operations = await step.plan(database);
      await database.batch([...operations, { type: "put", key: schemaKey, value: schema }], { sync: true });
    }
  }
}

async function isEmpty(database: Database): Promise<boolean> {
  for await (const _key of database.keys({ limit: 1 })) {
    return false;
  }
  return true;
}

class LevelState implements State {
  instanceId = "";
  readonly containers = new ContainerTable();
  readonly execs = new RecordTable("exec", ExecRecordSchema, (record) => record.id);
  readonly images = new RecordTable("image", ImageRecordSchema, (record) => record.id);
  readonly volumes = new RecordTable("volume", VolumeRecordSchema, (record) => record.name);
  readonly networks = new NetworkTable();
  readonly tasks = new RecordTable("task", TaskRecordSchema, (record) => record.containerId);
  readonly definitions = new RecordTable("definition", DefinitionRecordSchema, (record) => record.family);
  readonly events: Journal;
  readonly failed: Promise<Error>;

  readonly #database: Database;
  readonly #directory: string;
  readonly #fail: (reason: Error) => void;
  #failure: Error | undefined;
  #closed = false;
  /** Operations and events that the next batch takes, and the promise of that batch. */
  #pending: Operation[] = [];
  #pendingEvents: Event[] = [];
  #nextWrite: Promise<void> | undefined;
  #lastWrite: Promise<void> = Promise.resolve();

  constructor(database: Database, options: StateOptions) {
    this.#database = database;
    this.#directory = options.directory;
    this.events = new Journal(options.clock, options.journalLimit);
    const failed = Promise.withResolvers<Error>();
    this.failed = failed.promise;
    this.#fail = failed.resolve;
  }

  async load(): Promise<void> {
    const instance = await this.#database.get(instanceKey);
    if (instance === undefined) {
      throw damaged(this.#directory, `no value at ${instanceKey}`);
    }
    this.instanceId = new TextDecoder().decode(instance);
    for (const table of [
      this.containers,
      this.execs,
      this.images,
      this.volumes,
      this.networks,
      this.tasks,
      this.definitions,
    ]) {
      await this.#read(table.name, (id, value) => table.load(id, value));
    }
    await this.#read("event", (_id, value) => this.events.load(value));
  }

  commit(describe: (change: Change) => void): Promise<void> {
    const refusal = this.#failure ?? (this.#closed ? systemError("the state is closed") : undefined);
    if (refusal !== undefined) {
      return Promise.reject(refusal);
    }
    const operations = this.#pending;
    describe({
      containers: this.containers.changeInto(operations),
      execs: this.execs.changeInto(operations),
      images: this.images.changeInto(operations),
      volumes: this.volumes.changeInto(operations),
      networks: this.networks.changeInto(operations),
      tasks: this.tasks.changeInto(operations),
      definitions: this.definitions.changeInto(operations),
      event: (event) => this.#pendingEvents.push(this.events.append(event, operations)),
    });
    // Commits that come while a batch is being written share the next one: two batches in flight could land in the
    // wrong order.
    if (this.#nextWrite === undefined) {
      this.#nextWrite = this.#lastWrite.then(() => this.#write());
      this.#lastWrite = this.#nextWrite.catch(() => undefined);
    }
    return this.#nextWrite;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#lastWrite;
    await this.#database.close();
  }

  async #write(): Promise<void> {
    const operations = this.#pending;
    const events = this.#pendingEvents;
    this.#pending = [];
    this.#pendingEvents = [];
    this.#nextWrite = undefined;
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    try {
      await this.#database.batch(operations);
    } catch (error) {
      this.#failure = systemError(
        `cannot write to state directory ${this.#directory}: ${messageOf(error)}`,
        error,
      );
      this.#fail(this.#failure);
      throw this.#failure;
    }
    for (const event of events) {
      this.events.announce(event);
    }
  }

  async #read(
    table: Parameters<typeof tableRange>[0],
    take: (id: string, value: Uint8Array) => void,
  ): Promise<void> {
    let current = "";
    try {
      for await (const [key, value] of this.#database.iterator(tableRange(table))) {
        current = key;
        take(idOfKey(key), value);
      }
    } catch (error) {
      const place = current === "" ? `table ${table}` : `at or after ${current}`;
      throw damaged(this.#directory, `${place}: ${messageOf(error)}`, error);
    }
  }
}
