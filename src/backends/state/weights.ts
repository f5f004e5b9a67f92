/** Bounds what records of one kind hold together: each is in memory, and lists send parts of all of them. */
import { isMessage } from "@bufbuild/protobuf";

import { type SockerlessError, systemError } from "../../common/errors.ts";
import type { TableName } from "./keys.ts";

/** Tables whose records clients make as long as they like; images are bounded by their configurations. */
export const weighedTables: readonly TableName[] = ["container", "volume", "network"];

/** Bytes that records of one kind may hold together, as {@link weightOf} counts them. */
const weightLimit = 64 * 2 ** 20;

/** Bytes beyond {@link weightLimit} that changes of all records of a kind may add together. */
const growthLimit = 16 * 2 ** 20;

/** Bytes that an entry of a list or map counts besides its text: it costs time to decode and to write. */
const entryBytes = 128;

/** The error of what would add to a kind of records, in the plural, over {@link weightLimit}. */
export function overfull(records: string): SockerlessError {
  return systemError(
    `the ${records} may hold at most ${weightLimit / 2 ** 20} MiB together: remove some first`,
  );
}

/** Bytes of the keys and texts in a value, and {@link entryBytes} for each entry of its lists and maps. */
export function weightOf(value: unknown): number {
  if (typeof value === "string" || value instanceof Uint8Array) {
    return value.length;
  }
  if (typeof value !== "object" || value === null) {
    return 0;
  }
  const each = isMessage(value) ? 0 : entryBytes;
  return Object.entries(value).reduce((sum, [key, field]) => sum + each + key.length + weightOf(field), 0);
}

/** The weights of records of one kind. */
export class Weights {
  readonly #weights = new Map<string, number>();
  #total = 0;

  /** Counts a record in place of the one with its ID. @returns whether what it adds is too much */
  set(id: string, record: unknown): boolean {
    const before = this.#weights.get(id);
    const weight = weightOf(record);
    this.#weights.set(id, weight);
    this.#total += weight - (before ?? 0);
    return before === undefined
      ? this.#total > weightLimit
      : weight > before && this.#total > weightLimit + growthLimit;
  }

  /** Counts a record no more. */
  delete(id: string): void {
    this.#total -= this.#weights.get(id) ?? 0;
    this.#weights.delete(id);
  }
}
