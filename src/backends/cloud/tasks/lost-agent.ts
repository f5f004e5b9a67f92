/** Decides about starts whose agents were lost before they answered. */
import { messageOf } from "../../../common/errors.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { LostAgent } from "../../driver/launches.ts";
import { find } from "./list.ts";
import type { TaskContext } from "./task-context.ts";
import { withBegin } from "./unrecorded-start.ts";

/** Fields of a task whose agent has not been reached. */
export const unmet = { address: "", agentPin: new Uint8Array(), phase: TaskPhase.UNSPECIFIED };

/**
 * Whether a start whose agent was lost between its launch and its answer continues with another launch:
 *
 * - An agent that answers now, or may answer later, is told again: it performs a start once, however often it is told.
 * - One that was never told to run is waited for again, and its task replaced if it ends.
 * - One that may have been told, and whose task has ended, is replaced only if its last line or the cloud's exit code
 *   shows that no command has begun. Otherwise the start fails: no command runs twice.
 */
export async function mayLaunchAgain(
  context: TaskContext,
  containerId: string,
  { failure, isTold: isToldNow }: LostAgent,
): Promise<boolean> {
  const { agents, book, interrupted, logger } = context;
  const task = book.of(containerId);
  const isTold = isToldNow || task?.request === ""; // It was taken up: an earlier backend has told it.
  const start = task && interrupted.of(containerId, task.generation);
  if (task?.phase !== TaskPhase.SERVING || start === undefined) {
    return false;
  }
  let hasEnded = false;
  if (!(await agents.answers(task))) {
    if (isTold) {
      const end = await endOfTold(context, task);
      if (end === "may have run") {
        return false;
      }
      hasEnded = end === "has begun nothing";
    } else {
      await leaveAgent(context, task);
    }
  }
  start.lost = { failure, hasEnded, needsSameAgent: isTold && !hasEnded };
  const about = { container: containerId, task: task.task, err: failure };
  logger.warn(about, `the agent of a container was lost in its start: ${messageOf(failure)}`);
  return true;
}

/** Drops the agent of a start that was not told to run: the next launch waits for it, or requests another task. */
export async function leaveAgent(context: TaskContext, task: TaskRecord): Promise<TaskRecord> {
  const { book, departures, logger } = context;
  const { containerId } = task;
  if (task.launchGeneration === task.generation) {
    return await book.note(containerId, unmet);
  }
  await departures
    .stop(task.task, "its agent was lost as it was to be used again")
    .catch((error: unknown) =>
      logger.warn(
        { container: containerId, task: task.task, err: error },
        `cannot stop a task: ${messageOf(error)}`,
      ),
    );
  return await book.note(containerId, { ...unmet, phase: TaskPhase.GONE });
}

/** Finds out what has become of a task whose agent may have been told to run, and records an end. */
async function endOfTold(
  context: TaskContext,
  { containerId, generation }: TaskRecord,
): Promise<"has begun nothing" | "may have run" | "not known to have ended"> {
  try {
    const found = await find(context, containerId);
    if (found?.generation !== generation) {
      return "may have run";
    }
    if (found.agent !== undefined || found.exit === undefined) {
      return "not known to have ended";
    }
    return (await withBegin(context, found)).begunAt === undefined ? "has begun nothing" : "may have run";
  } catch (error) {
    context.abandoned.throwIfAborted();
    context.logger.warn(
      { container: containerId, err: error },
      `what has become of a start is asked again: ${messageOf(error)}`,
    );
    return "not known to have ended";
  }
}
