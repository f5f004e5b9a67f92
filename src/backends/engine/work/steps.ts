/**
 * Verbs as lists of named steps, in the order in which they are performed and journalled. The first step is the journal
 * entry: a backend that finds it at its start completes the list, or undoes it. Tests kill the backend at the steps by
 * name (`create.volumes.before`, `create.volumes.after`).
 */
import { testBuild } from "../../driver/fault-points.ts";

/**
 * One step of a verb. Its results are in the state or at the driver, so that another process of the backend can undo
 * it.
 */
export interface Step<Work extends Left, Left = Work> {
  readonly name: string;
  /**
   * Performs the step. It may have been performed before, by an earlier process of the backend too, and then finds its
   * results.
   */
  readonly run: (work: Work) => Promise<void> | void;
  /** Undoes the step, of which all, a part, or nothing was performed. */
  readonly undo?: (left: Left) => Promise<void>;
}

/** A verb's steps. */
export interface Verb<Work extends Left, Left = Work> {
  readonly name: string;
  readonly steps: readonly Step<Work, Left>[];
  /** Undoes the verb after a step behind the first has failed. @returns the error to answer */
  readonly failed?: (work: Work, error: unknown) => Promise<unknown>;
}

/** Performs a verb's steps. @param from the first step to perform; undefined: the verb's first */
export async function performSteps<Work extends Left, Left>(
  { name: verb, steps, failed }: Verb<Work, Left>,
  work: Work,
  from?: string,
): Promise<void> {
  const first = from === undefined ? 0 : steps.findIndex(({ name }) => name === from);
  for (const { name, run } of steps.slice(first)) {
    testBuild?.reached(`${verb}.${name}.before`);
    try {
      await run(work);
    } catch (error) {
      throw name === steps[0]?.name || failed === undefined ? error : await failed(work, error);
    }
    testBuild?.reached(`${verb}.${name}.after`);
  }
}

/** Undoes all of a verb's steps, the last one first. */
export async function undoSteps<Work extends Left, Left>(
  { steps }: Verb<Work, Left>,
  left: Left,
): Promise<void> {
  for (const { undo } of steps.toReversed()) {
    await undo?.(left);
  }
}
