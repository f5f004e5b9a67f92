/**
 * The backend's state: all records in memory for reading; every change written as one batch.
 *
 * A commit is visible to readers at once, so that checking and committing are one step in this process; it resolves
 * when the batch is durable. While the database cannot be written, most likely because the disk is full, the spare
 * (storage.ts) takes batches, except those that create something, which are undone and refused, and events beyond a
 * share of the spare, which are announced and in memory only. If the spare cannot be written either, changes that have
 * already happened stay in memory; while the disk is full so do the others, as a removal frees space. No failure ends
 * the process.
 */
import type { Clock } from "../../common/clock.ts";
import { messageOf, systemError } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { after } from "../../common/timers.ts";
import type { Event } from "../../gen/sockerless/backend/v1/events_pb.ts";
import {
  type ContainerRecord,
  type DefinitionRecord,
  DefinitionRecordSchema,
  type ExecRecord,
  type ImageRecord,
  type NetworkRecord,
  type PoolRecord,
  PoolRecordSchema,
  type TaskRecord,
  TaskRecordSchema,
  type VolumeRecord,
  VolumeRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import { type Containers, ContainerTable } from "./container-table.ts";
import type { Loss } from "./damage.ts";
import { damaged, type Operation } from "./database.ts";
import { type Execs, ExecTable } from "./exec-table.ts";
import { type EventJournal, Journal, type NewEvent } from "./journal.ts";
import { idOfKey, instanceKey, type TableName, tableRange } from "./keys.ts";
import { LargeCommits } from "./large-commits.ts";
import { bytesOf } from "./last-operations.ts";
import { type Migration, migrations } from "./migrations.ts";
import { type Images, ImageTable } from "./image-table.ts";
import { type Networks, NetworkTable } from "./network-table.ts";
import { Storage } from "./storage.ts";
import { RecordTable, type Steps, type Table, type TableChange } from "./table.ts";
import { upgrade } from "./upgrade.ts";

/** A change: everything in it becomes durable together, or not at all. */
export interface Change {
  readonly containers: TableChange<ContainerRecord>;
  readonly execs: TableChange<ExecRecord>;
  readonly images: TableChange<ImageRecord>;
  readonly volumes: TableChange<VolumeRecord>;
  readonly networks: TableChange<NetworkRecord>;
  readonly tasks: TableChange<TaskRecord>;
  readonly definitions: TableChange<DefinitionRecord>;
  readonly pool: TableChange<PoolRecord>;
  /** Journals an event; listeners receive it once the change is durable. */
  event(event: NewEvent): void;
  /** Sends an event to the listeners, in order, without journalling it. */
  passingEvent(event: NewEvent): void;
}

/**
 * Whether a change can still be refused (`asked`), is a step of what has begun and refused only if it cannot be
 * written (`under-way`), or records a fact (`happened`): a process has ended. A fact that will be reported again to the next
 * reader of this state (`reported-again`) is only written along with the next change.
 */
export type ChangeKind = "asked" | "under-way" | "happened" | "reported-again";

/** A backend's state. */
export interface State {
  /** Created with the database; identifies this state. */
  readonly instanceId: string;
  readonly containers: Containers;
  readonly execs: Execs;
  readonly images: Images;
  readonly volumes: Table<VolumeRecord>;
  readonly networks: Networks;
  /** On clouds: containers' tasks, by container ID; on ECS: task definitions, by family. */
  readonly tasks: Table<TaskRecord>;
  readonly definitions: Table<DefinitionRecord>;
  /** On clouds: what the pool of prepared tasks remembers. */
  readonly pool: Table<PoolRecord>;
  readonly events: EventJournal;
  /**
   * Applies a change; resolves when it is durable and, if it is large, others have had time for theirs (large-commits.ts).
   * `describe` must not throw half-way.
   *
   * @param kind default: asked
   * @throws system if it cannot be written, or was asked for and adds to a kind of records that holds too much
   *   (weights.ts); the change is then undone
   */
  commit(describe: (change: Change) => void, kind?: ChangeKind): Promise<void>;
  /**
   * Reasons, in words, to assume that records are lost; if there are none, whatever is unknown to the state may be
   * deleted.
   */
  readonly losses: readonly string[];
  /** The reason, for users, why the database takes no changes now; undefined if it does. */
  readonly failure: string | undefined;
  /** Whether all of them are torn ends after crashes, which may have lost nothing. */
  readonly mayBeWhole: boolean;
  /** Adds a reason for the life of this process. */
  suspect(reason: string): void;
  /** Clears the reasons, if none need have lost anything, or on a user's command. @throws Node's error */
  forgetLosses(): Promise<void>;
  /** Waits for pending commits and closes the database. */
  close(): Promise<void>;
}

/** Options of {@link openState}. */
export interface StateOptions {
  /** Directory of a single backend; the database is `db` in it. */
  readonly directory: string;
  readonly clock: Clock;
  /** Logs when the database cannot be written, and when it can again. */
  readonly logger?: Logger;
  /** Bytes of a half of the spare; for tests. */
  readonly spareHalfBytes?: number;
  /** Milliseconds to wait for another backend to close the database; for tests. */
  readonly lockWaitMs?: number;
  /** Events to keep; for tests. */
  readonly journalLimit?: number;
  /** The schema's steps; for tests. */
  readonly migrations?: readonly Migration[];
}

/**
 * Opens the state of a backend, migrates it to this version's schema, and reads it into memory.
 *
 * @throws conflict if another process uses the directory; system if the database is damaged, or newer than this program
 */
export async function openState(options: StateOptions): Promise<State> {
  const storage = await Storage.open(options);
  try {
    await upgrade(storage, options.directory, options.migrations ?? migrations);
    const state = new LevelState(storage, options);
    await state.load();
    return state;
  } catch (error) {
    await storage.close();
    throw error;
  }
}

/** Tables whose records take space elsewhere too: while the disk is full they get no new ones. */
const roomyTables: readonly TableName[] = ["container", "image", "volume", "network"];

/** Interval for retrying to write the database. */
const retryMs = 1_000;

/** A commit in progress. */
interface Commit extends Omit<Steps, "operations"> {
  readonly kind: ChangeKind;
  readonly events: Event[];
  /** Its operations without their values, which only the batch keeps. */
  readonly operations: readonly Pick<Operation, "type" | "key">[];
  readonly done: PromiseWithResolvers<void>;
}

/**
 * Commits that are written together. Of each key only the last operation is kept, however many commits change it while
 * another batch is written.
 */
interface Batch {
  readonly commits: Commit[];
  readonly operations: Map<string, Operation>;
}

const keysOf = ({ operations }: Commit): readonly string[] => operations.map(({ key }) => key);

const emptyBatch = (): Batch => ({ commits: [], operations: new Map() });

function inWords({ file, kind, offset }: Loss): string {
  const words = {
    torn: "ends in half a record",
    damaged: `is damaged at byte ${offset}`,
    unreadable: `cannot be read at byte ${offset}`,
    missing: "is missing",
  };
  return `db/${file} ${words[kind]}`;
}

class LevelState implements State {
  instanceId = "";
  readonly containers = new ContainerTable();
  readonly execs = new ExecTable();
  readonly images = new ImageTable();
  readonly volumes = new RecordTable("volume", VolumeRecordSchema, (record) => record.name, {
    labelsOf: ({ labels }) => labels,
  });
  readonly networks = new NetworkTable();
  readonly tasks = new RecordTable("task", TaskRecordSchema, (record) => record.containerId);
  readonly definitions = new RecordTable("definition", DefinitionRecordSchema, (record) => record.family);
  readonly pool = new RecordTable("pool", PoolRecordSchema, (record) => record.id);
  readonly events: Journal;

  readonly #storage: Storage;
  readonly #suspicions: string[] = [];
  readonly #directory: string;
  readonly #clock: Clock;
  #closed = false;
  /** The next batch; undefined if none is under way. */
  #pending: Batch | undefined;
  /** Commits waiting for another one. */
  #reportedAgain = emptyBatch();
  #lastWrite: Promise<void> = Promise.resolve();
  readonly #large = new LargeCommits();
  #retry: Disposable | undefined;

  constructor(storage: Storage, options: StateOptions) {
    this.#storage = storage;
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.events = new Journal(options.clock, options.journalLimit);
  }

  async load(): Promise<void> {
    const instance = await this.#storage.get(instanceKey);
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
      this.pool,
    ]) {
      await this.#read(table.name, (id, value) => table.load(id, value));
    }
    await this.#read("event", (_id, value) => this.events.load(value));
    await this.#storage.endReading();
    this.#retryLater();
  }

  commit(describe: (change: Change) => void, kind: ChangeKind = "asked"): Promise<void> {
    if (this.#closed) {
      return Promise.reject(systemError("the state is closed"));
    }
    const steps: Steps = { operations: [], undo: [], grows: new Set(), overfills: new Set() };
    const events: Event[] = [];
    describe({
      containers: this.containers.changeInto(steps),
      execs: this.execs.changeInto(steps),
      images: this.images.changeInto(steps),
      volumes: this.volumes.changeInto(steps),
      networks: this.networks.changeInto(steps),
      tasks: this.tasks.changeInto(steps),
      definitions: this.definitions.changeInto(steps),
      pool: this.pool.changeInto(steps),
      event: (event) => events.push(this.events.append(event, steps.operations)),
      passingEvent: (event) => events.push(this.events.dated(event)),
    });
    const operations = steps.operations.map(({ type, key }) => ({ type, key }));
    const commit: Commit = { ...steps, kind, events, operations, done: Promise.withResolvers() };
    const [overfilled] = commit.overfills;
    if (kind === "asked" && overfilled !== undefined) {
      this.#refuse(commit, systemError(overfilled));
      return commit.done.promise;
    }
    const waits = kind === "reported-again" && this.#pending === undefined;
    const batch = waits ? this.#reportedAgain : this.#toWrite();
    batch.commits.push(commit);
    for (const operation of steps.operations) {
      batch.operations.set(operation.key, operation);
    }
    return waits ? Promise.resolve() : this.#inTurn(commit, steps.operations);
  }

  /** Resolves when a commit is durable and, if it is large, others have had time for theirs. */
  async #inTurn({ done }: Commit, operations: readonly Operation[]): Promise<void> {
    const bytes = operations.reduce((sum, operation) => sum + bytesOf(operation), 0);
    await Promise.all([done.promise, this.#large.pace(bytes)]);
  }

  /** The next batch. */
  #toWrite(): Batch {
    // Commits that arrive while a batch is being written share the next one: two batches in flight could land in the
    // wrong order.
    if (this.#pending === undefined) {
      this.#pending = this.#reportedAgain;
      this.#reportedAgain = emptyBatch();
      this.#lastWrite = this.#lastWrite.then(() => this.#write());
    }
    return this.#pending;
  }

  get losses(): readonly string[] {
    return [...new Set([...this.#storage.losses.map(inWords), ...this.#suspicions])];
  }

  get failure(): string | undefined {
    return this.#storage.failure?.message;
  }

  get mayBeWhole(): boolean {
    return this.#suspicions.length === 0 && this.#storage.losses.every(({ kind }) => kind === "torn");
  }

  suspect(reason: string): void {
    this.#suspicions.push(reason);
  }

  async forgetLosses(): Promise<void> {
    await this.#storage.forgetLosses();
    this.#suspicions.length = 0;
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#reportedAgain.commits.length > 0) {
      this.#toWrite();
    }
    this.#retry?.[Symbol.dispose]();
    await this.#lastWrite;
    await this.#storage.close();
  }

  async #write(): Promise<void> {
    const batch = this.#pending ?? emptyBatch();
    this.#pending = undefined;
    const written = await this.#storage.write([...batch.operations.values()]);
    if (written === "written") {
      this.#settle(batch.commits);
    } else {
      await this.#writeToSpare(batch, written === "failed");
      this.#retryLater();
    }
  }

  /** @param perhapsApplied whether the database may have the commits all the same: what is refused is undone there too */
  async #writeToSpare({ commits, operations }: Batch, perhapsApplied: boolean): Promise<void> {
    /** Refuses commits, the last first: of each key the last commit that is kept decides. @returns those that are kept */
    const keep = (from: readonly Commit[], isKept: (commit: Commit) => boolean): readonly Commit[] => {
      const kept = from.filter(isKept);
      const keptKeys = new Set(kept.flatMap(keysOf));
      const decided = new Set<string>();
      for (const commit of from.toReversed()) {
        if (isKept(commit)) {
          for (const key of keysOf(commit)) {
            decided.add(key);
          }
          continue;
        }
        for (const key of keysOf(commit).filter((each) => !keptKeys.has(each))) {
          operations.delete(key);
        }
        for (const undone of this.#refuse(commit, this.#writeError)) {
          if (!decided.has(undone.key) && (perhapsApplied || keptKeys.has(undone.key))) {
            operations.set(undone.key, undone);
          }
        }
      }
      return kept;
    };
    const isRefused = ({ grows }: Commit): boolean =>
      roomyTables.some((table) => grows.has(table)) || (grows.has("exec") && this.#storage.isScarce);
    const kept = keep(commits, (commit) => !isRefused(commit));
    try {
      await this.#storage.writeToSpare([...operations.values()]);
      this.#settle(kept);
    } catch {
      const isFact = ({ kind }: Commit): boolean => kind === "happened" || kind === "reported-again";
      const isKept = (commit: Commit): boolean => isFact(commit) || this.#storage.refusal === "full";
      const happened = keep(kept, isKept);
      this.#storage.hold([...operations.values()]);
      this.#settle(happened);
    }
  }

  #settle(commits: readonly Commit[]): void {
    for (const { events, done } of commits) {
      for (const event of events) {
        this.events.announce(event);
      }
      done.resolve();
    }
  }

  get #writeError(): Error {
    return this.#storage.failure ?? systemError("the state cannot be written");
  }

  /** Undoes a commit and rejects it. @returns operations for the database that undo it there */
  #refuse({ undo, events, done, operations }: Commit, reason: Error): Operation[] {
    const undone = undo.toReversed().map((step) => step());
    done.reject(reason);
    return [...undone, ...this.events.retract(events, operations)];
  }

  /** Retries while the database cannot be written. */
  #retryLater(): void {
    this.#retry?.[Symbol.dispose]();
    if (this.#storage.failure === undefined || this.#closed) {
      return;
    }
    this.#retry = after(this.#clock, retryMs, () => {
      this.#lastWrite = this.#lastWrite.then(async () => {
        if (this.#storage.failure !== undefined && !this.#closed) {
          await this.#storage.restore();
          this.#retryLater();
        }
      });
    });
  }

  async #read(
    table: Parameters<typeof tableRange>[0],
    take: (id: string, value: Uint8Array) => void,
  ): Promise<void> {
    let current = "";
    try {
      for await (const [key, value] of this.#storage.entries(tableRange(table))) {
        current = key;
        take(idOfKey(key), value);
      }
    } catch (error) {
      const place = current === "" ? `table ${table}` : `at or after ${current}`;
      throw damaged(this.#directory, `${place}: ${messageOf(error)}`, error);
    }
  }
}
