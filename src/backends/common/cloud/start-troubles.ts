/**
 * Troubles of starts that pass, as a table: each cloud supplies rows of its own, and what is done about one is the same in
 * all clouds. What stands in no row fails a start at once.
 */
import type { ErrorKind } from "../../../common/errors.ts";

/** A class of failures of which a start may see one and succeed all the same. */
export interface StartTrouble {
  /** The name in the log and in documents: `interface-timeout`. */
  readonly name: string;
  /** The cloud's words for it. */
  readonly words: RegExp;
  /** The places where it is seen: the cloud refuses a `call` of the start, or the `end` of a task of which nothing has run. */
  readonly seen: readonly SeenAt[];
  /** How a start goes on: it waits for `room` in line with others, or tries again a few times by itself. */
  readonly again: "room" | Tries;
  /** Kind of the error that is left when a start has tried enough. */
  readonly kind: ErrorKind;
  /** A clause for users: `AWS has no capacity for it now`. */
  readonly told: string;
  /** There is no capacity of the kind that was asked for: the cloud may have some of another kind. */
  readonly lacksCapacity?: true;
}

/** Places where a trouble shows. */
export type SeenAt = "call" | "end";

/** How often a start meets a trouble before it fails, all within the time that it may take. */
export interface Tries {
  /** In all, the first included. */
  readonly most: number;
  /** Before the second; each further pause is twice as long. */
  readonly firstPauseMs: number;
}

/** The first row of a table whose words these are; undefined: it does not pass. */
export function troubleOf(
  table: readonly StartTrouble[],
  seen: SeenAt,
  reason: string,
): StartTrouble | undefined {
  return table.find((row) => row.seen.includes(seen) && row.words.test(reason));
}

/** The pauses of all tries together, milliseconds. */
export function longestWaitMs({ most, firstPauseMs }: Tries): number {
  return firstPauseMs * (2 ** (most - 1) - 1);
}
