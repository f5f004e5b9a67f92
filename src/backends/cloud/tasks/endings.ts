/** Handles a container's task after the end of its main process, or the container's removal. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import { messageOf, unavailable } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { after } from "../../../common/timers.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { tasksOfStart } from "./find-tasks.ts";
import { hasEnded } from "../contract/cloud-tasks.ts";
import { whole } from "./describe-all.ts";
import { conclude, type LastView } from "./conclude.ts";
import { leftToLater, servesLater } from "./later-starts.ts";
import { lingersUntilMs } from "./lingering.ts";
import type { TaskListener } from "./poller.ts";
import type { TaskContext } from "./task-context.ts";
import { leaveLogToCloud } from "./untaken-log.ts";

/** Time after a start during which the cloud may neither know nor list its task. */
const knownAfterMs = 10_000;
/** Time without news after which a task with an accepted stop counts as ended. */
const untoldLimitMs = 60_000;
/** Time after which a released agent's task has ended and the cloud has reported it. */
const toldAfterMs = 30_000;
/** The longest that a log which the cloud does not keep holds up the end of the backend, whose supervisor waits for 30 s. */
const lastLogMs = 15_000;

/**
 * Copies the log of an ended run, and lets its task linger or ends it.
 *
 * @param goes whether the container is removed with this end
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
 * Stops a run through the cloud if its agent does not answer: an agent that is only cut off forwards the stop. If the
 * cloud accepts and then reports nothing for a minute, the run has ended.
 *
 * @throws unavailable: it has not ended by the time the signal aborts; CloudError: it cannot be stopped
 */
export async function end(context: TaskContext, containerId: string, signal: AbortSignal): Promise<void> {
  const task = context.book.of(containerId);
  if (task?.phase !== TaskPhase.SERVING) {
    return;
  }
  const notYet = unavailable(
    `the container's agent does not answer, and ${context.cloud.names.service} has not ended its task yet`,
  );
  if (signal.aborted) {
    throw notYet;
  }
  const { clock, departures, poller } = context;
  const ended = Promise.withResolvers<LastView>();
  using _leaving = onAbort(signal, () => ended.reject(notYet));
  let forgottenFromMs = Number.POSITIVE_INFINITY;
  let untoldFromMs = Number.POSITIVE_INFINITY;
  const onUnknown = (): void => {
    if (clock.nowMs() >= untoldFromMs) {
      ended.resolve("untold");
    }
  };
  const onView: TaskListener = (view) => {
    if (view !== "missing" && view.isUntold) {
      onUnknown();
      return;
    }
    untoldFromMs = Math.max(untoldFromMs, clock.nowMs() + untoldLimitMs);
    if (view === "missing" ? clock.nowMs() >= forgottenFromMs : hasEnded(view)) {
      ended.resolve(view);
    }
  };
  const unlisten = poller.listen(task.task, onView, onUnknown);
  try {
    const stopped = departures.stop(task.task, "the container is stopped, and its agent does not answer");
    await Promise.race([stopped, ended.promise]); // The call may take longer than the caller waits.
    forgottenFromMs = clock.nowMs() + knownAfterMs;
    untoldFromMs = clock.nowMs() + untoldLimitMs;
    await conclude(context, task, await ended.promise);
  } finally {
    unlisten();
  }
}

/** Ends the task of a removed container, and drops its records. */
export async function remove(context: TaskContext, containerId: string): Promise<void> {
  const task = context.book.of(containerId);
  if (task?.phase === TaskPhase.UNSPECIFIED) {
    await abandon(context, task);
  } else if (task !== undefined && task.phase !== TaskPhase.GONE) {
    await sendAway(context, task);
  }
  await endLater(context, containerId, "the container is removed");
  await context.stored.remove(containerId);
  if (task !== undefined) {
    await context.book.forget(containerId);
  }
}

/** Ends the task, if any, of a later start than the state knew. */
export async function endLater(
  { clock, departures, later }: TaskContext,
  containerId: string,
  reason: string,
): Promise<void> {
  const task = later.get(containerId);
  if (task !== undefined) {
    departures.expect(task, clock.nowMs(), () => Promise.resolve());
    await departures.stop(task, reason);
    later.delete(containerId);
  }
}

/** Resumes watches, and connections to agents that are leaving, which the end of the backend interrupted. */
export function resumeDepartures(context: TaskContext): void {
  for (const task of context.book.all()) {
    context.agents.addressOf(task);
    if (task.phase === TaskPhase.LINGERING) {
      watchDeparture(context, task);
    }
  }
}

/** Stops all tasks of a failed start. */
async function abandon(context: TaskContext, task: TaskRecord): Promise<void> {
  const made = task.task === "" ? await unansweredTasks(context, task) : [task.task];
  for (const each of made) {
    context.departures.expect(each, context.clock.nowMs() + knownAfterMs, () => Promise.resolve());
    await context.departures.stop(each, "the start failed");
  }
  await context.book.note(task.containerId, { phase: TaskPhase.GONE });
}

/** Finds tasks that the cloud may have started although its answer was lost or is pending. */
async function unansweredTasks(context: TaskContext, task: TaskRecord): Promise<readonly string[]> {
  const { unanswered, book, clock, abandoned } = context;
  const { containerId } = task;
  const late = await unanswered.answerTo(containerId);
  if (typeof late === "object") {
    await book.noteTask(containerId, late.task);
    unanswered.forget(containerId);
    return [late.task];
  }
  // Even if this start has recorded no task: a crash may have come before the record.
  let made = await listedTasks(context, task);
  if (made.length === 0 && late === "unknown") {
    await clock.sleep(knownAfterMs, abandoned);
    made = await listedTasks(context, task);
  }
  unanswered.forget(containerId);
  return made;
}

async function listedTasks(context: TaskContext, task: TaskRecord): Promise<readonly string[]> {
  const views = await tasksOfStart(context, task.containerId, task.launchGeneration);
  return views.map((view) => view.task);
}

async function letLinger(context: TaskContext, task: TaskRecord, goes: boolean): Promise<void> {
  const { book, stored, agents, clock, logger, abandoned } = context;
  const about = { container: task.containerId, task: task.task };
  const target = agents.targetOf(task);
  if (target === undefined) {
    await abandon(context, task);
    return;
  }
  /** By a state that is older than the task, as after the restore of a backup. */
  const isUsedSince = async (): Promise<boolean> =>
    !book.hasWritten(task.containerId) && (await leftToLater(context, task)) !== undefined;
  if (goes) {
    if (!(await isUsedSince())) {
      await sendAway(context, task);
    }
    return;
  }
  const exit = await agents.endRun(task).catch(async (error: unknown) => {
    logger.warn({ ...about, err: error }, `an agent cannot say how its container ended: ${messageOf(error)}`);
    await leaveLogToCloud(context, task);
    return undefined;
  });
  if (exit === undefined) {
    if (await isUsedSince()) {
      return;
    }
    // It was never told to start, or has left, perhaps because the cloud stopped it.
    const told = await interruption(context, task);
    await book.note(task.containerId, { endReason: told ?? "" });
    if (told === undefined) {
      await seeOut(context, task);
      await book.note(task.containerId, { endReason: await interruptionAtEnd(context, task) });
    } else {
      await sendAway(context, task);
    }
    return;
  }
  // The agent of a task that the cloud stops may or may not still answer; the cloud gives the reason in either case.
  const error = exit.platformStop ? await interruption(context, task) : "";
  await book.noteEnd(task.containerId, { ...exit, error: error ?? "" }, task.phase);
  // Counted from the exit, like the agent does, however long the log takes. The agent's clock may be ahead.
  const leavesAtMs = Math.min(exit.finishedAt.getTime(), clock.nowMs()) + context.startSettings.lingerMs;
  // The next backend may come once the agent has left: a log that nobody else has is taken now if it comes soon.
  using later = laterThan(abandoned, lastLogMs, clock);
  const ending = stored.isLogKept ? abandoned : later.signal;
  await stored
    .drain(task.containerId, { agent: target, generation: task.generation }, ending)
    .catch((error: unknown) => {
      ending.throwIfAborted(); // The next backend takes it.
      const { log } = context.cloud.names;
      const shown = stored.isLogKept
        ? `is read from ${log}`
        : `what was not taken before is lost (${log} has none)`;
      logger.warn(
        { ...about, err: error },
        `the log of a container could not be taken from its agent, and ${shown}: ${messageOf(error)}`,
      );
    });
  if (exit.platformStop) {
    await seeOut(context, task);
    if (error === undefined) {
      await book.note(task.containerId, { endReason: await interruptionAtEnd(context, task) });
    }
    return;
  }
  if (context.startSettings.lingerMs === 0) {
    await sendAway(context, task);
    return;
  }
  const lingering = await book.note(task.containerId, {
    phase: TaskPhase.LINGERING,
    leavesAt: timestampFromMs(leavesAtMs),
  });
  watchDeparture(context, lingering);
}

/** Aborts so many milliseconds after a signal, with its reason, unless disposed before. */
function laterThan(
  signal: AbortSignal,
  ms: number,
  clock: Clock,
): Disposable & { readonly signal: AbortSignal } {
  const later = new AbortController();
  const pending = new DisposableStack();
  pending.use(onAbort(signal, () => void pending.use(after(clock, ms, () => later.abort(signal.reason)))));
  return { signal: later.signal, [Symbol.dispose]: () => pending.dispose() };
}

/**
 * Words for what the cloud, or someone using it, did to a task; empty if nothing is known; undefined if not reported
 * yet.
 */
async function interruption(context: TaskContext, task: TaskRecord): Promise<string | undefined> {
  try {
    const [view] = whole(await context.poller.describe([task.task]));
    const words = view?.interruption ?? "";
    const isTold = view === undefined || words !== "" || view.isReasonTold || view.stopped;
    return isTold ? words : undefined;
  } catch (error) {
    context.logger.warn({ err: error, task: task.task }, `cannot ask how a task ended: ${messageOf(error)}`);
    return "";
  }
}

/** The same for an ending task, as some clouds report the reason only then. */
async function interruptionAtEnd(
  { poller, clock, abandoned }: TaskContext,
  { task }: TaskRecord,
): Promise<string> {
  const told = Promise.withResolvers<string>();
  const unlisten = poller.listen(task, (view) => {
    if (view === "missing" || view.stopped) {
      told.resolve(view === "missing" ? "" : view.interruption);
    }
  });
  using _limit = after(clock, toldAfterMs, () => told.resolve(""));
  using _leaving = onAbort(abandoned, () => told.resolve(""));
  try {
    return await told.promise;
  } finally {
    unlisten();
  }
}

/** Ends a task through its agent, or through the cloud. */
async function sendAway(context: TaskContext, task: TaskRecord): Promise<void> {
  const { agents, departures } = context;
  if (!(await agents.letGo(task))) {
    await departures.stop(task.task, "the container has ended");
  }
  await expectEnd(context, task);
}

/**
 * Ends a task through its agent. A task without one is already ending, perhaps stopped by the cloud; stopping it would
 * replace the reported reason.
 */
async function seeOut(context: TaskContext, task: TaskRecord): Promise<void> {
  await context.agents.letGo(task);
  await expectEnd(context, task);
}

async function expectEnd(context: TaskContext, task: TaskRecord): Promise<void> {
  const { agents, departures, clock } = context;
  await context.book.note(task.containerId, { phase: TaskPhase.GONE });
  departures.expect(task.task, clock.nowMs(), async () => agents.forget(task));
}

function watchDeparture(context: TaskContext, task: TaskRecord): void {
  const { agents, book, departures, later, startSettings } = context;
  const gone = async (): Promise<void> => {
    const now = book.of(task.containerId);
    if (now?.task === task.task && now.phase === TaskPhase.LINGERING) {
      await book.note(task.containerId, { phase: TaskPhase.GONE });
      agents.forget(task);
    }
  };
  // An agent that ends by itself has stayed until its log was copied.
  const isShort = startSettings.lingerMs < startSettings.drainTimeoutMs;
  departures.expect(task.task, lingersUntilMs(task), gone, {
    letGo: isShort ? () => agents.letGo(task) : undefined,
    isUsed: async () =>
      later.get(task.containerId) === task.task || (await servesLater(context, task)) !== undefined,
  });
}
