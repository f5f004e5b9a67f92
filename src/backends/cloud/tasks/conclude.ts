/** Records ends of runs that were stopped without their agents. */
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import type { TaskContext } from "./task-context.ts";
import { exitOfTask, lostExit, viewOfRun } from "./task-end.ts";
import { leaveLogToCloud } from "./untaken-log.ts";

/** Time for which a stop waits for the agent's last line, which may be late in the cloud's log. */
const lastLineMs = 30_000;
const pollMs = 5_000;

/** The final description of a task; `untold` if the cloud no longer describes it. */
export type LastView = TaskView | "missing" | "untold";

/**
 * Records the end of a run whose task was stopped without its agent: from the agent's last line, else as far as the
 * cloud knows. Then watches that the task ends.
 */
export async function conclude(context: TaskContext, task: TaskRecord, last: LastView): Promise<void> {
  const { agents, book, clock, departures, logger } = context;
  const { containerId } = task;
  const exit = await exitOf(context, task, last);
  await leaveLogToCloud(context, task);
  if (book.of(containerId) !== task) {
    return; // It was released, removed or restarted meanwhile.
  }
  logger.info({ container: containerId, task: task.task, ...exit }, "a container was ended past its agent");
  await book.noteEnd(containerId, exit, TaskPhase.GONE);
  departures.expect(task.task, clock.nowMs(), async () => agents.forget(task));
}

async function exitOf(context: TaskContext, task: TaskRecord, last: LastView): Promise<FoundExit> {
  const { clock, cloud } = context;
  const view = typeof last === "string" ? undefined : viewOfRun(task, last);
  const told = view?.exitCode === undefined ? await lastLine(context, task) : undefined;
  if (told !== undefined) {
    return told;
  }
  const now = new Date(clock.nowMs());
  if (view !== undefined) {
    return exitOfTask(view, now);
  }
  const lost = lostExit(now);
  const why = `, and ${cloud.names.service} does not tell how its task stands: it was stopped`;
  return { ...lost, error: `${lost.error}${last === "untold" ? why : ""}` };
}

/** The end that the agent wrote to the cloud's log; undefined if there is none, or it does not arrive in time. */
async function lastLine(
  { clock, ends, abandoned }: TaskContext,
  task: TaskRecord,
): Promise<FoundExit | undefined> {
  const untilMs = clock.nowMs() + lastLineMs;
  for (;;) {
    try {
      return (await ends.of(task)).exit;
    } catch {
      abandoned.throwIfAborted();
      if (clock.nowMs() >= untilMs) {
        return undefined;
      }
      await clock.sleep(pollMs, abandoned);
    }
  }
}
