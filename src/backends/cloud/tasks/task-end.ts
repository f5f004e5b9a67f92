/** Why a task is no more, in the words that a user of Docker reads. */
import { SockerlessError } from "../../../common/errors.ts";
import { isRefusal } from "../contract/cloud-error.ts";
import type { TaskRefusal, TaskView } from "../contract/cloud-tasks.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import type { Prospect } from "../contract/start-prospect.ts";

/** The cloud tells no exit code: never 0, because nobody saw it succeed. */
const unknownExit = 255;
/** 128 + SIGKILL. */
const killedExit = 137;

const prefix = "failed to start a task for the container: ";

/**
 * The failure of a start that goes no further.
 *
 * @param reason the cloud's words
 */
export function startFailure(
  reason: string,
  cause?: unknown,
  kind: "system" | "unavailable" = "system",
): SockerlessError {
  return new SockerlessError(kind, prefix + reason, cause);
}

/** A start has failed, and goes on all the same: its command has not begun. */
export class PassingFailure extends SockerlessError {
  readonly prospect: Prospect;
  /** The cloud's words. */
  readonly reason: string;

  constructor({ reason, cause, prospect }: TaskRefusal) {
    super(isLack(prospect) ? "unavailable" : "system", prefix + reason, cause);
    this.prospect = prospect;
    this.reason = reason;
  }
}

/**
 * The failure of a start that was given no task: one that goes on, unless the reason lasts or nobody knows whether there is
 * a task all the same.
 */
export function failureOfRefusal(refusal: TaskRefusal): SockerlessError {
  const { reason, cause, prospect } = refusal;
  const isAnswered = cause === undefined || isRefusal(cause) || isLack(prospect);
  return prospect !== "lasts" && isAnswered ? new PassingFailure(refusal) : startFailure(reason, cause);
}

/** The failure of a start whose task ended before its agent answered. */
export function failureOfTask({ reason, prospect }: TaskView): SockerlessError {
  return failureOfRefusal({ reason, prospect, cause: undefined });
}

/** Whether a cloud that fails a start so has looked for what it takes, and found none. */
export function isLack(prospect: Prospect): boolean {
  return prospect === "room" || prospect === "capacity";
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

/** The end of a run of which neither its agent nor the cloud tells. */
export function lostExit(now: Date): FoundExit {
  return { code: unknownExit, oomKilled: false, finishedAt: now, error: "the container's agent was lost" };
}

/** How a run has ended that its platform had told to stop, which may have ended in good order without its work done. */
export function unfinishedExit(exit: FoundExit): FoundExit {
  return {
    ...exit,
    code: exit.code === 0 ? unknownExit : exit.code,
    error: "the container was stopped by its platform",
  };
}
