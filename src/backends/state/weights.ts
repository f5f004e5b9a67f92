/** Bounds what records of one kind hold together: each is in memory, and lists send parts of all of them. */
import { isMessage } from "@bufbuild/protobuf";

/** Bytes that records of one kind may hold together, as {@link weightOf} counts them. */
const weightLimit = 64 * 2 ** 20;

/** Bytes beyond {@link weightLimit} that changes of all records of a kind may add together. */
const growthLimit = 16 * 2 ** 20;

/** Bytes of the records of a kind that were made through the Docker socket of one container. */
const creatorLimit = weightLimit / 8;

/** Bytes that an entry of a list or map counts besides its text: it costs time to decode and to write. */
const entryBytes = 128;

/** The least bytes that a record counts: a list of the kind decodes, sorts and shows it at once with all others. */
const leastRecordBytes = 1_024;

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
  readonly #records: string;
  readonly #weights = new Map<string, { readonly weight: number; readonly creator: string | undefined }>();
  readonly #totals = new Map<string, number>();
  #total = 0;

  /** @param records the kind, in the plural */
  constructor(records: string) {
    this.#records = records;
  }

  /**
   * Counts a record in place of the one with its ID.
   *
   * @param creator ID of the container through whose Docker socket it was made: each has an eighth of a kind, and of
   *   what may be added to it
   * @returns the reason to refuse what it adds, in words; undefined if there is none
   */
  set(id: string, record: unknown, creator?: string): string | undefined {
    const before = this.#weights.get(id);
    const weight = Math.max(leastRecordBytes, weightOf(record));
    this.delete(id);
    this.#weights.set(id, { weight, creator });
    this.#total += weight;
    const ofCreator = this.#addToCreator(creator, weight);
    if (before !== undefined && weight <= before.weight) {
      return undefined;
    }
    const growth = before === undefined ? 0 : growthLimit;
    if (ofCreator > creatorLimit + growth / 8) {
      return `the ${this.#records} made through one Docker socket ${mayHold(creatorLimit)}`;
    }
    return this.#total > weightLimit + growth ? `the ${this.#records} ${mayHold(weightLimit)}` : undefined;
  }

  /** Counts a record no more. */
  delete(id: string): void {
    const { weight, creator } = this.#weights.get(id) ?? { weight: 0, creator: undefined };
    this.#total -= weight;
    this.#addToCreator(creator, -weight);
    this.#weights.delete(id);
  }

  /** @returns the sum of what the creator has */
  #addToCreator(creator: string | undefined, weight: number): number {
    if (creator === undefined) {
      return 0;
    }
    const total = (this.#totals.get(creator) ?? 0) + weight;
    if (total > 0) {
      this.#totals.set(creator, total);
    } else {
      this.#totals.delete(creator);
    }
    return total;
  }
}

function mayHold(limit: number): string {
  return `may hold at most ${limit / 2 ** 20} MiB together: remove some first`;
}
