/**
 * Writes commits to the database and, while that fails, to the spare.
 *
 * After a failed write LevelDB must not be written to: its log may end in half a record, after which a recovery would
 * drop everything, and a failed compaction refuses all further writes. It is reopened once there is space for what
 * opening writes, and gets all missing operations in one batch.
 */
import { readdir, rm, stat, statfs, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout } from "node:timers/promises";

import { isErrorKind, messageOf, systemError } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { stateWritten } from "../../common/metrics/measure.ts";
import {
  type Database,
  isCorruption,
  locationOf,
  type Operation,
  openDatabase,
  type Refusal,
  refusalIn,
  refusedError,
} from "./database.ts";
import { type DatabaseView, openView } from "./database-view.ts";
import { findLosses, type Loss, needsRepair, reportedLoss } from "./damage.ts";
import { isEventKey, spareKey, type tableRange } from "./keys.ts";
import { bytesOf, LastOperations } from "./last-operations.ts";
import { repairDatabase } from "./repair.ts";
import { copyDatabase, deleteSetAside, setAsideLosses } from "./set-aside.ts";
import { defaultHalfBytes, Spare } from "./spare.ts";

/** Space that opening a database needs in addition to its log. */
const openingBytes = 256 * 1024;
const openingFiles = 8;

/** Options of {@link Storage.open}. */
export interface StorageOptions {
  readonly directory: string;
  readonly logger?: Logger;
  /** Bytes of a half of the spare; for tests. */
  readonly spareHalfBytes?: number;
  /** Milliseconds to wait for another backend to close the database; for tests. */
  readonly lockWaitMs?: number;
}

/**
 * Whether the database has the operations of a batch: a write that failed may have been applied all the same, unless it
 * was not tried.
 */
export type Written = "written" | "failed" | "untried";

/** The part of the spare's half that events get: what ends and is removed has the rest. */
const eventShare = 1 / 4;

const defaultLockWaitMs = 10_000;
const lockRetryMs = 50;

/** The durable part of a backend's state. Calls must not overlap. */
export class Storage {
  readonly #options: StorageOptions;
  #database: Database | undefined;
  /** The reason why the database takes no writes; undefined if it does. */
  #failure: Error | undefined;
  #view: DatabaseView | undefined;
  #spare: Spare | undefined;
  #losses: readonly Loss[] = [];
  /** True once the database itself was read, not just a view of it. */
  #isRead = false;
  /** The last operation on each key that is neither in the database nor in the spare. */
  readonly #held = new LastOperations();
  /** Keys of events that neither the database nor the spare has, nor {@link #held}. */
  readonly #leftOut = new Set<string>();

  private constructor(options: StorageOptions) {
    this.#options = options;
  }

  /** @throws as `openDatabase`, if a view cannot be read either */
  static async open(options: StorageOptions): Promise<Storage> {
    const storage = new Storage(options);
    try {
      await storage.#openDatabase();
      await storage.#openSpare();
      if (storage.#failure === undefined && storage.#lacked().size > 0) {
        await storage.restore();
      }
      return storage;
    } catch (error) {
      await storage.close();
      throw error;
    }
  }

  /** The reason, for users, why the database takes no writes now; undefined if it does. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Kind of the {@link failure}; undefined for none or another kind. */
  get refusal(): Refusal | undefined {
    return refusalIn(this.#failure);
  }

  /** True if the rest of the spare is reserved for changes that end or remove something. */
  get isScarce(): boolean {
    return this.#spare !== undefined && 2 * this.#lackedBytes > this.#spare.halfBytes;
  }

  /** Losses of this database and of its set-aside copies, as of when they were read. */
  get losses(): readonly Loss[] {
    return this.#losses;
  }

  /** Deletes the set-aside copies. @throws Node's error */
  async forgetLosses(): Promise<void> {
    await deleteSetAside(this.#options.directory);
    this.#losses = [];
  }

  /** Bytes of the missing operations, at most. */
  get #lackedBytes(): number {
    return (this.#spare?.content.bytes ?? 0) + this.#held.bytes;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const lacked = this.#lacked().get(key);
    if (lacked !== undefined) {
      return lacked.type === "put" ? lacked.value : undefined;
    }
    return await this.#database?.get(key);
  }

  async isEmpty(): Promise<boolean> {
    const keys = (await this.#database?.keys({ limit: 1 }).all()) ?? [];
    return keys.length === 0 && this.#lacked().size === 0;
  }

  /**
   * Entries of a table: those in the database ordered by key, then the missing ones ordered by key. Missing events are
   * the newest, and for other records the order does not matter.
   */
  async *entries({ gt, lt }: ReturnType<typeof tableRange>): AsyncGenerator<[string, Uint8Array]> {
    const lacked = this.#lacked();
    for await (const [key, value] of this.#database?.iterator({ gt, lt }) ?? []) {
      if (!lacked.has(key)) {
        yield [key, value];
      }
    }
    const added = [...lacked.values()].filter(({ key }) => key > gt && key < lt);
    for (const operation of added.toSorted((a, b) => (a.key < b.key ? -1 : 1))) {
      if (operation.type === "put") {
        yield [operation.key, operation.value];
      }
    }
  }

  /** Removes the files of a view: its entries are no longer read. */
  async endReading(): Promise<void> {
    await this.#view?.forgetFiles();
    this.#view = undefined;
  }

  /** Writes to the database, all or nothing. */
  async write(operations: readonly Operation[]): Promise<Written> {
    if (this.#failure !== undefined && !(await this.restore())) {
      return "untried";
    }
    const begin = performance.now();
    const report = (outcome: "written" | "failed"): void =>
      stateWritten.report(() => ({ outcome, seconds: (performance.now() - begin) / 1000 }));
    try {
      await this.#database?.batch([...operations]);
      report("written");
      return "written";
    } catch (error) {
      report("failed");
      this.#fail(error);
      return "failed";
    }
  }

  /**
   * Writes to the spare, all or nothing, but for events beyond their share.
   *
   * @throws if the spare cannot take it
   */
  async writeToSpare(operations: readonly Operation[]): Promise<void> {
    if (this.#spare === undefined) {
      await this.#openSpare();
    }
    if (this.#spare === undefined) {
      throw this.#failure ?? new Error("there is no spare");
    }
    const { kept, leftOut } = this.#withinShare(operations);
    if (kept.length > 0) {
      await this.#spare.add([...this.#held.byKey.values(), ...kept]);
      this.#held.clear();
    }
    this.#leaveOut(leftOut);
  }

  /** Keeps operations in memory until the disk can take them, but for events beyond their share. */
  hold(operations: readonly Operation[]): void {
    const { kept, leftOut } = this.#withinShare(operations);
    this.#held.add(kept);
    this.#leaveOut(leftOut);
  }

  /**
   * Divides operations into those to keep and those to leave out: additions of events beyond their share, and removals of
   * events that the database does not have. Those in the spare stay there, as each removal would take more room: they
   * get to the database as the oldest events, which a journal that is full drops when it is read.
   */
  #withinShare(operations: readonly Operation[]): Record<"kept" | "leftOut", readonly Operation[]> {
    const { content, halfBytes } = this.#spare ?? { content: undefined, halfBytes: defaultHalfBytes };
    let room = eventShare * halfBytes - (content?.eventBytes ?? 0) - this.#held.eventBytes;
    const isMissing = (key: string): boolean =>
      this.#leftOut.has(key) ||
      this.#held.byKey.get(key)?.type === "put" ||
      content?.byKey.get(key)?.type === "put";
    const parts = { kept: [] as Operation[], leftOut: [] as Operation[] };
    for (const operation of operations) {
      const isEvent = isEventKey(operation.key);
      const isKept =
        !isEvent || (operation.type === "del" ? !isMissing(operation.key) : bytesOf(operation) <= room);
      room -= isKept && isEvent ? bytesOf(operation) : 0;
      (isKept ? parts.kept : parts.leftOut).push(operation);
    }
    return parts;
  }

  #leaveOut(operations: readonly Operation[]): void {
    for (const { type, key } of operations) {
      if (type === "put") {
        this.#leftOut.add(key);
      } else {
        this.#leftOut.delete(key);
      }
    }
  }

  /**
   * Writes the missing operations to the database, if possible.
   *
   * @returns whether the database takes writes now
   */
  async restore(): Promise<boolean> {
    if (this.#failure !== undefined && !(await this.#hasRoom())) {
      return false;
    }
    const lacked = this.#lacked();
    try {
      if (this.#failure !== undefined) {
        await this.#database?.close();
        this.#database = await (this.#isRead ? openDatabase(this.#options.directory) : this.#openWithCopy());
      }
      const taken = new TextEncoder().encode(String(this.#spare?.sequence ?? 0n));
      const operations: Operation[] = [...lacked.values(), { type: "put", key: spareKey, value: taken }];
      await this.#database?.batch(operations, { sync: true });
    } catch (error) {
      this.#fail(error);
      await this.#keepLock();
      return false;
    }
    this.#spare?.clear();
    this.#held.clear();
    this.#leftOut.clear();
    if (this.#failure !== undefined) {
      this.#options.logger?.info("the state directory takes changes again");
      this.#failure = undefined;
    }
    if (this.#spare === undefined) {
      await this.#openSpare();
    }
    return true;
  }

  async close(): Promise<void> {
    await this.endReading();
    await this.#spare?.close();
    await this.#database?.close();
  }

  /** The last operation on each key missing in the database. */
  #lacked(): ReadonlyMap<string, Operation> {
    const content = this.#spare?.content.byKey ?? new Map<string, Operation>();
    const held = this.#held.byKey;
    return held.size === 0 ? content : new Map([...content, ...held]);
  }

  #fail(error: unknown): void {
    const failure = refusedError(this.#options.directory, error);
    if (this.#failure === undefined) {
      this.#options.logger?.error({ err: error }, `the database takes no changes: ${messageOf(failure)}`);
    }
    this.#failure = failure;
  }

  async #openDatabase(): Promise<void> {
    const { directory } = this.#options;
    try {
      this.#database = await this.#openUnlocked();
    } catch (error) {
      if (refusalIn(error) === undefined || (await lossesIn(directory)).some(needsRepair)) {
        throw error;
      }
      try {
        this.#view = await openView(directory);
      } catch (viewError) {
        throw refusalIn(viewError) === undefined ? viewError : error;
      }
      if (this.#view === undefined) {
        throw error;
      }
      this.#database = this.#view.database;
      this.#losses = [...(await lossesIn(directory)), ...(await setAsideLosses(directory))];
      this.#fail(error);
    }
  }

  /**
   * Waits a bounded time for an earlier backend: if its supervisor was killed, it ends while the next one is starting.
   */
  async #openUnlocked(): Promise<Database> {
    const { lockWaitMs = defaultLockWaitMs } = this.#options;
    const deadline = performance.now() + lockWaitMs;
    for (;;) {
      try {
        return await this.#openWithCopy();
      } catch (error) {
        if (!isErrorKind(error, "conflict") || performance.now() >= deadline) {
          throw error;
        }
      }
      await setTimeout(lockRetryMs);
    }
  }

  /** Opens the database; copies a damaged one first, and repairs it if necessary. */
  async #openWithCopy(): Promise<Database> {
    const { directory } = this.#options;
    let losses = await lossesIn(directory);
    if (losses.some(needsRepair)) {
      await repairDatabase(directory);
      losses = [];
    }
    const copy = losses.length === 0 ? undefined : await this.#copy(losses);
    try {
      const database = await this.#openRepaired();
      this.#losses = [...(copy === undefined ? losses : []), ...(await setAsideLosses(directory))];
      this.#isRead = true;
      return database;
    } catch (error) {
      await (copy === undefined ? undefined : rm(copy, { recursive: true, force: true }));
      throw error;
    }
  }

  /** Opens the database; rebuilds it if its files are inconsistent. */
  async #openRepaired(): Promise<Database> {
    const { directory } = this.#options;
    try {
      return await openDatabase(directory);
    } catch (error) {
      if (!isCorruption(error)) {
        throw error;
      }
      await repairDatabase(directory, reportedLoss(error));
      return await openDatabase(directory);
    }
  }

  /** @returns undefined if the copy failed and only the database's end is torn. @throws as {@link copyDatabase} */
  async #copy(losses: readonly Loss[]): Promise<string | undefined> {
    try {
      return await copyDatabase(this.#options.directory, losses);
    } catch (error) {
      if (losses.some(({ kind }) => kind !== "torn")) {
        throw error; // Without a copy, the next start would not know what this one has dropped.
      }
      const { cause = error } = error as Error;
      this.#options.logger?.error(
        { err: cause, losses },
        `the database ends in half a record, of which there is no copy: ${messageOf(cause)}`,
      );
      return undefined;
    }
  }

  async #openSpare(): Promise<void> {
    const { directory, spareHalfBytes, logger } = this.#options;
    try {
      const taken = BigInt(new TextDecoder().decode(await this.#database?.get(spareKey)) || "0");
      this.#spare = await Spare.open({
        stateDirectory: directory,
        taken,
        ...(spareHalfBytes === undefined ? {} : { halfBytes: spareHalfBytes }),
      });
    } catch (error) {
      logger?.warn({ err: error }, "the state directory has no spare for a disk that is full");
    }
  }

  /** Holds the lock of a database that was closed and cannot be reopened, by means of a view. */
  async #keepLock(): Promise<void> {
    if (this.#database?.status === "open") {
      return;
    }
    try {
      const view = await openView(this.#options.directory);
      await view?.forgetFiles();
      this.#database = view?.database;
    } catch (error) {
      this.#database = undefined;
      this.#options.logger?.warn(
        { err: error },
        "the state directory is not locked while it cannot be written",
      );
    }
  }

  /** Whether the database can be opened and take the missing operations; cheaper than a failed attempt to open it. */
  async #hasRoom(): Promise<boolean> {
    const { directory } = this.#options;
    const probe = path.join(directory, "probe");
    try {
      const needed = openingBytes + this.#lackedBytes + (await logBytes(directory));
      const { bavail, bsize, files, ffree } = await statfs(directory);
      if (bavail * bsize < needed || (files > 0 && ffree < openingFiles)) {
        return false;
      }
      await writeFile(probe, Buffer.alloc(needed)); // Only a write shows a quota.
      return true;
    } catch {
      return false;
    } finally {
      await rm(probe, { force: true }).catch(() => undefined);
    }
  }
}

async function lossesIn(stateDirectory: string): Promise<readonly Loss[]> {
  try {
    return await findLosses(locationOf(stateDirectory));
  } catch (error) {
    throw systemError(
      `cannot read the database in state directory ${stateDirectory}: ${messageOf(error)}`,
      error,
    );
  }
}

async function logBytes(stateDirectory: string): Promise<number> {
  const location = locationOf(stateDirectory);
  const names = (await readdir(location)).filter((name) => name.endsWith(".log"));
  const sizes = await Promise.all(names.map(async (name) => (await stat(path.join(location, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}
