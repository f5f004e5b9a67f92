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
 * - An agent that answers now is told again: it performs a start once, however often it is told.
 * - One that was never told to run is waited for again, and its task replaced if it ends.
 * - One that may have been told is replaced only if its task has ended, and its last line or the cloud's exit code
 *   shows that no command has begun. Otherwise the start fails: no command runs twice.
 */
export async function mayLaunchAgain(
  context: TaskContext,
  containerId: string,
  lost: LostAgent,
): Promise<boolean> {
  const { agents, book, interrupted, logger } = context;
  const task = book.of(containerId);
  const start = task && interrupted.of(containerId, task.generation);
  if (task?.phase !== TaskPhase.SERVING || start === undefined) {
    return false;
  }
  if (!(await agents.answers(task))) {
    if (!lost.isTold) {
      await leaveAgent(context, task);
    } else if (!(await hasBegunNothing(context, task))) {
      return false;
    }
  }
  start.lost = lost.failure;
  const about = { container: containerId, task: task.task, err: lost.failure };
  logger.warn(about, `the agent of a container was lost in its start: ${messageOf(lost.failure)}`);
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

/** Whether a task has ended without its agent having begun a command; its end is recorded then. */
async function hasBegunNothing(
  context: TaskContext,
  { containerId, generation }: TaskRecord,
): Promise<boolean> {
  try {
    const found = await find(context, containerId);
    const isOver = found?.generation === generation && found.agent === undefined && found.exit !== undefined;
    return isOver && (await withBegin(context, found)).begunAt === undefined;
  } catch (error) {
    context.abandoned.throwIfAborted();
    context.logger.warn(
      { container: containerId, err: error },
      `whether a start has begun anything is not known: ${messageOf(error)}`,
    );
    return false;
  }
}
