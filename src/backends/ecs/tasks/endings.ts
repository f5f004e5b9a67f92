/** What happens with a container's task after its main process has ended, and when the container goes. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { messageOf, unavailable } from "../../../common/errors.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { findTasks } from "./find-tasks.ts";
import { lingersUntilMs } from "./lingering.ts";
import { interruptionOf } from "./reasons.ts";
import type { TaskContext } from "./task-context.ts";
import { hasEnded } from "./task-view.ts";

/** Right after its start AWS may not know a task, nor list it: a stop that comes so early is made good after this time. */
const knownAfterMs = 10_000;

/**
 * The run is over, as it should or not: its log is taken in, and its task lingers or goes.
 *
 * @param goes the container goes with this end, and all that is known of it
 */
export async function release(context: TaskContext, containerId: string, goes: boolean): Promise<void> {
  const task = context.book.of(containerId);
  switch (task?.phase) {
    case TaskPhase.UNSPECIFIED:
      await abandon(context, task);
      break;
    case TaskPhase.SERVING:
      await letLinger(context, task, goes);
      break;
    case TaskPhase.LINGERING:
      watchDeparture(context, task);
      break;
    default:
      break; // It never had a task, or that is gone.
  }
}

/**
 * Ends a run whose agent does not answer: one that is only cut off passes on what ECS tells it.
 *
 * @throws unavailable: it has not ended when the signal aborts; AwsError: it cannot be stopped
 */
export async function end(context: TaskContext, containerId: string, signal: AbortSignal): Promise<void> {
  const task = context.book.of(containerId);
  if (task?.phase !== TaskPhase.SERVING) {
    return;
  }
  const notYet = unavailable("the container's agent does not answer, and ECS has not ended its task yet");
  if (signal.aborted) {
    throw notYet;
  }
  const { clock, departures, poller } = context;
  const ended = Promise.withResolvers<void>();
  const abort = (): void => ended.reject(notYet);
  signal.addEventListener("abort", abort, { once: true });
  let forgottenFromMs = Number.POSITIVE_INFINITY;
  const unlisten = poller.listen(task.task, (view) => {
    if (view === "missing" ? clock.nowMs() >= forgottenFromMs : hasEnded(view)) {
      ended.resolve();
    }
  });
  try {
    const stopped = departures.stop(task.task, "the container is stopped, and its agent does not answer");
    await Promise.race([stopped, ended.promise]); // The call may take longer than anybody waits.
    forgottenFromMs = clock.nowMs() + knownAfterMs;
    await ended.promise;
  } finally {
    signal.removeEventListener("abort", abort);
    unlisten();
  }
}

/** The container goes, and its task with it. */
export async function remove(context: TaskContext, containerId: string): Promise<void> {
  const task = context.book.of(containerId);
  if (task?.phase === TaskPhase.UNSPECIFIED) {
    await abandon(context, task);
  } else if (task !== undefined && task.phase !== TaskPhase.GONE) {
    await sendAway(context, task);
  }
  await context.stored.remove(containerId);
  if (task !== undefined) {
    await context.book.forget(containerId);
  }
}

/** Takes up departures that the backend's end has cut off. */
export function resumeDepartures(context: TaskContext): void {
  for (const task of context.book.all()) {
    if (task.phase === TaskPhase.LINGERING) {
      watchDeparture(context, task);
    }
  }
}

/** A start that came to nothing: whatever AWS has made of it is stopped. */
async function abandon(context: TaskContext, task: TaskRecord): Promise<void> {
  const arns = task.task === "" ? await unansweredTasks(context, task) : [task.task];
  for (const arn of arns) {
    context.departures.expect(arn, context.clock.nowMs() + knownAfterMs, () => Promise.resolve());
    await context.departures.stop(arn, "the start failed");
  }
  await context.book.note(task.containerId, { phase: TaskPhase.GONE });
}

/** AWS may have started a task and its answer been lost, or still be to come. */
async function unansweredTasks(context: TaskContext, task: TaskRecord): Promise<readonly string[]> {
  const { unanswered, book, clock, abandoned } = context;
  const { containerId } = task;
  const late = await unanswered.answerTo(containerId);
  if (typeof late === "object") {
    await book.noteTask(containerId, late.arn);
    unanswered.forget(containerId);
    return [late.arn];
  }
  let arns = await listedTasks(context, task); // Also where this start has none: one that a crash has cut off may.
  if (arns.length === 0 && late === "unknown") {
    await clock.sleep(knownAfterMs, abandoned);
    arns = await listedTasks(context, task);
  }
  unanswered.forget(containerId);
  return arns;
}

async function listedTasks(context: TaskContext, task: TaskRecord): Promise<readonly string[]> {
  const { instance, cluster } = context.run;
  const views = await findTasks([], { ...context, instance, cluster });
  return views
    .filter((view) => view.containerId === task.containerId && view.generation === task.launchGeneration)
    .map(({ arn }) => arn);
}

async function letLinger(context: TaskContext, task: TaskRecord, goes: boolean): Promise<void> {
  const { book, stored, agents, clock, logger } = context;
  const about = { container: task.containerId, task: task.task };
  const target = agents.targetOf(task);
  if (target === undefined) {
    await abandon(context, task);
    return;
  }
  if (goes) {
    await sendAway(context, task);
    return;
  }
  const exit = await agents.endRun(task).catch((error: unknown) => {
    logger.warn({ ...about, err: error }, `an agent cannot say how its container ended: ${messageOf(error)}`);
    return undefined;
  });
  if (exit === undefined) {
    // It was never told to start, or has left: AWS may have told it to.
    await book.note(task.containerId, { endReason: await interruption(context, task) });
    await sendAway(context, task);
    return;
  }
  // The agent of a task that AWS stops may still answer, or have left: whichever it does, ECS tells why.
  const error = exit.platformStop ? await interruption(context, task) : "";
  await book.noteEnd(task.containerId, { ...exit, error }, task.phase);
  // As its agent counts: from the exit, however long the log takes. Its clock may be ahead of this one.
  const leavesAtMs = Math.min(exit.finishedAt.getTime(), clock.nowMs()) + context.start.lingerMs;
  await stored
    .drain(task.containerId, target)
    .catch((error: unknown) =>
      logger.warn(
        { ...about, err: error },
        `the log of a container could not be taken from its agent, and is read from CloudWatch: ${messageOf(error)}`,
      ),
    );
  if (context.start.lingerMs === 0) {
    await sendAway(context, task);
    return;
  }
  const lingering = await book.note(task.containerId, {
    phase: TaskPhase.LINGERING,
    leavesAt: timestampFromMs(leavesAtMs),
  });
  watchDeparture(context, lingering);
}

/** What AWS, or somebody there, has done to a task; empty: nothing, or nobody knows. */
async function interruption(context: TaskContext, task: TaskRecord): Promise<string> {
  try {
    const [view] = await context.poller.describe([task.task]);
    return view === undefined ? "" : interruptionOf(view);
  } catch (error) {
    context.logger.warn({ err: error, task: task.task }, `cannot ask how a task ended: ${messageOf(error)}`);
    return "";
  }
}

/** Ends a task through its agent, or past it. */
async function sendAway(context: TaskContext, task: TaskRecord): Promise<void> {
  const { agents, departures, clock } = context;
  if (!(await agents.letGo(task))) {
    await departures.stop(task.task, "the container has ended");
  }
  await context.book.note(task.containerId, { phase: TaskPhase.GONE });
  departures.expect(task.task, clock.nowMs(), () => Promise.resolve());
}

function watchDeparture(context: TaskContext, task: TaskRecord): void {
  const { book, departures } = context;
  departures.expect(task.task, lingersUntilMs(task), async () => {
    const now = book.of(task.containerId);
    if (now?.task === task.task && now.phase === TaskPhase.LINGERING) {
      await book.note(task.containerId, { phase: TaskPhase.GONE });
    }
  });
}
