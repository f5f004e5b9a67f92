import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { TaskContext } from "./task-context.ts";
import { lostExit } from "./task-end.ts";
import { leaveLogToCloud } from "./untaken-log.ts";

/**
 * Writes down the end of a run of which nobody tells any more, neither its agent nor the cloud. Its task was stopped, and is
 * seen off.
 */
export async function giveUp(context: TaskContext, task: TaskRecord): Promise<void> {
  const { agents, book, clock, cloud, departures, logger } = context;
  const { containerId } = task;
  const why = `${cloud.names.service} does not tell how its task stands: it was stopped`;
  logger.warn(
    { container: containerId, task: task.task },
    `the agent of a container was lost, and ${why}; the container counts as ended`,
  );
  const told = await context.ends.of(task).catch(() => undefined); // Its agent may have left a last line.
  await leaveLogToCloud(context, task);
  if (book.of(containerId) !== task) {
    return; // It was released, removed or started again meanwhile.
  }
  const lost = lostExit(new Date(clock.nowMs()));
  const exit = told?.exit ?? { ...lost, error: `${lost.error}, and ${why}` };
  await book.noteEnd(containerId, exit, TaskPhase.GONE);
  departures.expect(task.task, clock.nowMs(), async () => agents.forget(task));
}
