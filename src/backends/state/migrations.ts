/**
 * Changes to the schema, in the order in which they came. A migration's number is its place in the list, from 1; the
 * database remembers the last that ran. A migration is one batch, so a crash leaves the database before or after it,
 * never between. Migrations are added at the end and never edited once released.
 */
import { newId } from "../../common/ids.ts";
import type { Database, Operation } from "./database.ts";
import { instanceKey } from "./keys.ts";

/** One step of the schema. */
export interface Migration {
  /** The change in a few words, for the log. */
  readonly description: string;
  /** The operations that make the change, from what the database holds. */
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
