/** Ends of runs that are over past their agents. */
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import type { TaskContext } from "./task-context.ts";
import { exitOfTask, lostExit } from "./task-end.ts";
import { leaveLogToCloud } from "./untaken-log.ts";

/** An agent's last line may be late in the cloud's log; whoever has stopped a run waits so long for it. */
const lastLineMs = 30_000;
const askAgainMs = 5_000;

/** The last that is told of a task; `untold`: the cloud tells nothing of it any more. */
export type LastView = TaskView | "missing" | "untold";

/**
 * Writes down the end of a run whose task was stopped past its agent: as its agent has left word of it, else as far as the cloud
 * tells. The task is seen off.
 */
export async function conclude(context: TaskContext, task: TaskRecord, last: LastView): Promise<void> {
  const { agents, book, clock, departures, logger } = context;
  const { containerId } = task;
  const exit = await exitOf(context, task, last);
  await leaveLogToCloud(context, task);
  if (book.of(containerId) !== task) {
    return; // It was released, removed or started again meanwhile.
  }
  logger.info({ container: containerId, task: task.task, ...exit }, "a container was ended past its agent");
  await book.noteEnd(containerId, exit, TaskPhase.GONE);
  departures.expect(task.task, clock.nowMs(), async () => agents.forget(task));
}

async function exitOf(context: TaskContext, task: TaskRecord, last: LastView): Promise<FoundExit> {
  const { clock, cloud } = context;
  const view = typeof last === "string" ? undefined : last;
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

/** The end that the agent has left in the cloud's log; undefined: it has left none, or it does not come. */
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
      await clock.sleep(askAgainMs, abandoned);
    }
  }
}
