/** Why a task is no more, in the words that a user of Docker reads. */
import { SockerlessError } from "../../../../common/errors.ts";
import type { CloudTasks, TaskView } from "../cloud-tasks.ts";
import { type SeenAt, type StartTrouble, troubleOf } from "../start-troubles.ts";
import type { FoundExit } from "../../driver/workloads.ts";

/** The cloud tells no exit code: never 0, because nobody saw it succeed. */
const unknownExit = 255;
/** 128 + SIGKILL. */
const killedExit = 137;

const prefix = "failed to start a task for the container: ";

/**
 * The failure of a start that is not tried again.
 *
 * @param reason the cloud's words
 */
export function startFailure(
  { troubles }: Pick<CloudTasks, "troubles">,
  reason: string,
  cause?: unknown,
): SockerlessError {
  const row = troubleOf(troubles, "call", reason) ?? troubleOf(troubles, "end", reason);
  return new SockerlessError(row?.kind ?? "system", prefix + reason, cause);
}

/** A start failed in a way that passes: nothing of it has run, and another task may. */
export class PassingFailure extends SockerlessError {
  readonly trouble: StartTrouble;
  /** The cloud's words. */
  readonly reason: string;

  constructor(trouble: StartTrouble, reason: string, cause?: unknown) {
    super(trouble.kind, prefix + reason, cause);
    this.trouble = trouble;
    this.reason = reason;
  }
}

/** The failure of a start, which may be one that passes. @param reason the cloud's words */
export function failureSeen(
  { troubles }: Pick<CloudTasks, "troubles">,
  seen: SeenAt,
  reason: string,
  cause?: unknown,
): SockerlessError {
  const trouble = troubleOf(troubles, seen, reason);
  return trouble === undefined
    ? new SockerlessError("system", prefix + reason, cause)
    : new PassingFailure(trouble, reason, cause);
}

/** The failure of a start whose task ended before its agent answered. */
export function failureOfTask(
  cloud: Pick<CloudTasks, "troubles">,
  { reason, neverRan }: TaskView,
): SockerlessError {
  return neverRan ? failureSeen(cloud, "end", reason) : startFailure(cloud, reason);
}

/** How the container of a stopped task ended, as far as the cloud knows. */
export function exitOfTask(task: TaskView, now: Date): Required<FoundExit> {
  const { exitCode, interruption, outOfMemory, reason } = task;
  const oomKilled = outOfMemory !== "";
  const finishedAt = task.stoppedAt ?? now;
  if (exitCode === undefined) {
    return { code: oomKilled ? killedExit : unknownExit, oomKilled, finishedAt, error: reason };
  }
  return {
    code: interruption !== "" && exitCode === 0 ? unknownExit : exitCode,
    oomKilled,
    finishedAt,
    error: interruption || outOfMemory,
  };
}

/** How a run has ended that its platform had told to stop, which may have ended in good order without its work done. */
export function unfinishedExit(exit: FoundExit): FoundExit {
  return {
    ...exit,
    code: exit.code === 0 ? unknownExit : exit.code,
    error: "the container was stopped by its platform",
  };
}
