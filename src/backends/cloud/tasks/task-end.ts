/** Reasons for a task's end, in words for users. */
import { SockerlessError } from "../../../common/errors.ts";
import { isRefusal } from "../contract/cloud-error.ts";
import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { TaskRefusal, TaskView } from "../contract/cloud-tasks.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import type { Prospect } from "../contract/start-prospect.ts";

/** Exit code if the cloud reports none: never 0, as success was not observed. */
const unknownExit = 255;
/** 128 + SIGKILL. */
const killedExit = 137;

const prefix = "failed to start a task for the container: ";

/**
 * The error of a permanently failed start.
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

/** A failure after which the start continues, as its command has not begun. */
export class PassingFailure extends SockerlessError {
  readonly prospect: Prospect;
  /** The reason in the cloud's words. */
  readonly reason: string;

  constructor({ reason, cause, prospect }: TaskRefusal) {
    super(isLack(prospect) ? "unavailable" : "system", prefix + reason, cause);
    this.prospect = prospect;
    this.reason = reason;
  }
}

/** The failure of a start without a task: transient, unless the reason is permanent or a task may exist. */
export function failureOfRefusal(refusal: TaskRefusal): SockerlessError {
  const { reason, cause, prospect } = refusal;
  const isAnswered = cause === undefined || isRefusal(cause) || isLack(prospect);
  return prospect !== "lasts" && isAnswered ? new PassingFailure(refusal) : startFailure(reason, cause);
}

/** The error of a start whose task ended before its agent answered. */
export function failureOfTask({ reason, prospect }: TaskView): SockerlessError {
  return failureOfRefusal({ reason, prospect, cause: undefined });
}

/** Whether the failure means that the cloud found no capacity. */
export function isLack(prospect: Prospect): boolean {
  return prospect === "room" || prospect === "capacity";
}

/**
 * A task's description as far as it tells of a container's run. The exit code of a reused task may be that of the run
 * before: its agent exits with that if it was never told to start this one.
 */
export function viewOfRun(
  { generation, launchGeneration }: Pick<TaskRecord, "generation" | "launchGeneration">,
  view: TaskView,
): TaskView {
  return generation === launchGeneration ? view : { ...view, exitCode: undefined };
}

/** The end of a stopped task's container, according to the cloud. */
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

/** The end of a run without news from agent and cloud. */
export function lostExit(now: Date): FoundExit {
  return { code: unknownExit, oomKilled: false, finishedAt: now, error: "the container's agent was lost" };
}

/** The end of a run that its platform stopped, which may have exited with 0 without finishing its work. */
export function unfinishedExit(exit: FoundExit): FoundExit {
  return {
    ...exit,
    code: exit.code === 0 ? unknownExit : exit.code,
    error: "the container was stopped by its platform",
  };
}
