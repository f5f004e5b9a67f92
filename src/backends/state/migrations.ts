/**
 * Changes to the schema, oldest first. A migration's number is its position in the list, from 1; the database stores
 * the number of the last one that ran. All that a database lacks are one batch (upgrade.ts). Migrations are added at the end, and never edited once released.
 */
import { newId } from "../../common/ids.ts";
import type { Operation } from "./database.ts";
import { instanceKey, type tableRange } from "./keys.ts";

/** A database with the migrations before this one. */
export interface MigrationSource {
  get(key: string): Promise<Uint8Array | undefined>;
  /** Those stored in the order of their keys, then those that migrations before this one have put. */
  entries(range: ReturnType<typeof tableRange>): AsyncIterable<readonly [string, Uint8Array]>;
}

/** A step of the schema. */
export interface Migration {
  /** The change in a few words, for the log. */
  readonly description: string;
  /** The operations for the change, based on the database's content. */
  plan(source: MigrationSource): Promise<readonly Operation[]>;
}

/** All migrations. */
export const migrations: readonly Migration[] = [
  {
    description: "make the instance ID",
    plan: () =>
      Promise.resolve([{ type: "put", key: instanceKey, value: new TextEncoder().encode(newId()) }]),
  },
];
