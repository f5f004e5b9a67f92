/**
 * Changes to the schema, oldest first. A migration's number is its position in the list, from 1; the database stores
 * the number of the last one that ran. A migration is one batch, so that a crash leaves the database before or after
 * it, never between. Migrations are added at the end, and never edited once released.
 */
import { newId } from "../../common/ids.ts";
import type { Database, Operation } from "./database.ts";
import { instanceKey } from "./keys.ts";

/** A step of the schema. */
export interface Migration {
  /** The change in a few words, for the log. */
  readonly description: string;
  /** The operations for the change, based on the database's content. */
  plan(database: Database): Promise<readonly Operation[]>;
}

/** All migrations. */
export const migrations: readonly Migration[] = [
  {
    description: "make the instance ID",
    plan: () =>
      Promise.resolve([{ type: "put", key: instanceKey, value: new TextEncoder().encode(newId()) }]),
  },
];
