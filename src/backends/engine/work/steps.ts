/**
 * Verbs as lists of named steps, in the order in which they are done and journalled. The first step is the journal entry: a
 * process of the backend that finds it walks the rest of the same list, or walks it back. Tests kill the backend at the steps by
 * name (`create.volumes.before`, `create.volumes.after`).
 */
import { testBuild } from "../../driver/fault-points.ts";

/** One step of a verb. What it makes is in the state or at the driver, so that another process of the backend can undo it. */
export interface Step<Work extends Left, Left = Work> {
  readonly name: string;
  /** Does it; where it was done before, by an earlier process of the backend too, it finds what is there. */
  readonly does: (work: Work) => Promise<void> | void;
  /** Takes back what it has made: all, a part, or nothing. */
  readonly undoes?: (left: Left) => Promise<void>;
}

/** A verb's steps. */
export interface Verb<Work extends Left, Left = Work> {
  readonly name: string;
  readonly steps: readonly Step<Work, Left>[];
  /** Takes back what was done, where a step behind the first has failed. @returns the error to answer */
  readonly failed?: (work: Work, error: unknown) => Promise<unknown>;
}

/** Does a verb's steps. @param from the step to begin with; undefined: the first */
export async function walk<Work extends Left, Left>(
  { name: verb, steps, failed }: Verb<Work, Left>,
  work: Work,
  from?: string,
): Promise<void> {
  const first = from === undefined ? 0 : steps.findIndex(({ name }) => name === from);
  for (const { name, does } of steps.slice(first)) {
    testBuild?.reached(`${verb}.${name}.before`);
    try {
      await does(work);
    } catch (error) {
      throw name === steps[0]?.name || failed === undefined ? error : await failed(work, error);
    }
    testBuild?.reached(`${verb}.${name}.after`);
  }
}

/** Takes back all of a verb's steps, the last one first. */
export async function walkBack<Work extends Left, Left>(
  { steps }: Verb<Work, Left>,
  left: Left,
): Promise<void> {
  for (const { undoes } of steps.toReversed()) {
    await undoes?.(left);
  }
}
