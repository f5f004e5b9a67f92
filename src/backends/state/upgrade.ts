/**
 * Takes a database of an earlier schema up: a copy of it is put beside, then all missing migrations are one batch. A
 * crash leaves it before or after them.
 */
import { mkdir, rename, rm } from "node:fs/promises";
import path from "node:path";

import { Level } from "level";

import { systemError } from "../../common/errors.ts";
import { version } from "../../common/version.ts";
import { damaged, databaseOptions, type Operation } from "./database.ts";
import { releaseKey, schemaKey, type tableRange } from "./keys.ts";
import { migrations as knownMigrations, type Migration, type MigrationSource } from "./migrations.ts";
import type { Storage } from "./storage.ts";

type Range = ReturnType<typeof tableRange>;

/** Larger than any key. */
const allKeys: Range = { gt: "", lt: "\uffff" };
/** Bytes of values in one batch of a copy. */
const batchBytes = 4 * 1024 * 1024;

const text = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : new TextDecoder().decode(value);

/** Path of the copy of a database that had an earlier schema. */
export function copyBeforeUpgrade(stateDirectory: string, schema: number): string {
  return path.join(stateDirectory, "before-upgrade", `schema-${schema}`, "db");
}

/**
 * Brings a database to the schema of these migrations.
 *
 * @throws system if a newer version wrote it, or it is damaged, or it cannot be copied or written; nothing is changed then
 */
export async function upgrade(
  storage: Storage,
  stateDirectory: string,
  migrations: readonly Migration[],
): Promise<void> {
  const stored = text(await storage.get(schemaKey));
  const done = Number(stored ?? 0);
  const isLost = stored === undefined && storage.losses.length === 0 && !(await storage.isEmpty());
  if (!Number.isSafeInteger(done) || done < 0 || isLost) {
    throw damaged(stateDirectory, `no valid value at ${schemaKey}`);
  }
  await refuseNewer(storage, stateDirectory, migrations.length);
  if (done === migrations.length) {
    return;
  }
  if (done > 0) {
    await copy(storage, copyBeforeUpgrade(stateDirectory, done));
  }
  const planned = new Plan(storage);
  for (const migration of migrations.slice(done)) {
    planned.add(await migration.plan(planned));
  }
  const encode = (value: string): Uint8Array => new TextEncoder().encode(value);
  planned.add([
    { type: "put", key: schemaKey, value: encode(String(migrations.length)) },
    { type: "put", key: releaseKey, value: encode(version) },
  ]);
  if ((await storage.write(planned.operations)) !== "written") {
    throw storage.failure ?? systemError("the schema cannot be changed");
  }
}

/**
 * Refuses a database of a later schema than this version knows.
 *
 * @throws system, with what to do
 */
export async function refuseNewer(
  database: Pick<MigrationSource, "get">,
  stateDirectory: string,
  known = knownMigrations.length,
): Promise<void> {
  const schema = Number(text(await database.get(schemaKey)) ?? 0);
  if (schema > known) {
    const writer = text(await database.get(releaseKey));
    throw systemError(
      `state directory ${stateDirectory} was written by a newer sockerless${writer === undefined ? "" : `, ${writer}`} ` +
        `(schema ${schema}; this is ${version}, which knows ${known}), and is left as it is: run that version ` +
        `or a newer one, or put back the copy from before the upgrade, in ${path.join(stateDirectory, "before-upgrade")}`,
    );
  }
}

/** Copies all entries into a database of their own, which appears under its name when it is whole. */
async function copy(storage: Storage, target: string): Promise<void> {
  const begun = `${target}.new`;
  await rm(begun, { recursive: true, force: true });
  await mkdir(begun, { recursive: true, mode: 0o700 });
  const database = new Level<string, Uint8Array>(begun, databaseOptions);
  try {
    let batch: Operation[] = [];
    let bytes = 0;
    for await (const [key, value] of storage.entries(allKeys)) {
      batch.push({ type: "put", key, value });
      bytes += value.length;
      if (bytes >= batchBytes) {
        await database.batch(batch);
        [batch, bytes] = [[], 0];
      }
    }
    await database.batch(batch, { sync: true });
  } catch (error) {
    await database.close();
    await rm(begun, { recursive: true, force: true });
    throw systemError(`cannot copy the state before its upgrade to ${target}`, error);
  }
  await database.close();
  await rm(target, { recursive: true, force: true });
  await rename(begun, target);
}

/** A database as it will be: what is stored, with the operations planned so far. */
class Plan implements MigrationSource {
  readonly #storage: Storage;
  readonly #planned = new Map<string, Operation>();

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** In no order of importance: all are written together. */
  get operations(): readonly Operation[] {
    return [...this.#planned.values()];
  }

  add(operations: readonly Operation[]): void {
    for (const operation of operations) {
      this.#planned.set(operation.key, operation);
    }
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const planned = this.#planned.get(key);
    if (planned !== undefined) {
      return planned.type === "put" ? planned.value : undefined;
    }
    return await this.#storage.get(key);
  }

  async *entries(range: Range): AsyncGenerator<readonly [string, Uint8Array]> {
    for await (const [key, value] of this.#storage.entries(range)) {
      if (!this.#planned.has(key)) {
        yield [key, value];
      }
    }
    for (const operation of this.#planned.values()) {
      if (operation.type === "put" && operation.key > range.gt && operation.key < range.lt) {
        yield [operation.key, operation.value];
      }
    }
  }
}
