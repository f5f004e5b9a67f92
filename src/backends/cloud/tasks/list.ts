/** This instance's containers, according to the cloud and their agents. */
import { messageOf } from "../../../common/errors.ts";
import {
  type ContainerRecord,
  Phase,
  type TaskRecord,
  TaskPhase,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundExit, FoundWorkload } from "../../driver/workloads.ts";
import { hasProcess } from "../../model/records.ts";
import { isRefusal } from "../contract/cloud-error.ts";
import { findTasks } from "./find-tasks.ts";
import { describeLater, servesLater, takeLaterTasks } from "./later-starts.ts";
import { hasEnded, type TaskView } from "../contract/cloud-tasks.ts";
import { endOf } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";
import { conclude } from "./conclude.ts";
import { SinceWhen } from "./since-when.ts";
import { exitOfTask, lostExit, viewOfRun } from "./task-end.ts";
import { leaveLogToCloud } from "./untaken-log.ts";

/** Interval of checks for the end of a run while its agent is unreachable. */
const queriedWithinMs = 120_000;
/** Time after which a run without news from agent and cloud is given up. */
const silenceLimitMs = 600_000;

/** Tracks how long each task has been silent. */
export function silencesOfTasks(): SinceWhen {
  return new SinceWhen(queriedWithinMs + 1);
}

/**
 * All workloads, one entry per container. Unrecorded tasks are asked for their record. A container whose end cannot be
 * read now, or whose task the cloud refuses to describe, is reported as running: a caller that finds its agent gone
 * asks again.
 *
 * @param containers those in the state, which may lack one that is in the task records
 */
export async function list(
  context: TaskContext,
  containers: Pick<ReadonlyMap<string, ContainerRecord>, "get">,
): Promise<readonly FoundWorkload[]> {
  const { book } = context;
  const present = book.all().filter(({ phase }) => phase !== TaskPhase.GONE);
  const known = present.map(({ task }) => task).filter((task) => task !== "");
  const { views, waiting, failed } = await findTasks(known, context);
  await takeLaterTasks(context, containers, { views, failed });
  context.pool.seen(waiting.filter(({ stopping }) => !stopping));
  for (const view of views) {
    const { containerId: container, task, instance } = view;
    if (instance !== context.instance && !hasEnded(view) && !context.toldOfOthers.has(task)) {
      context.toldOfOthers.add(task); // Each look at the readiness lists them all.
      context.logger.warn(
        { container, task },
        `a task was started under another authority (${instance}): its agent is not reached until agent_ca is that one`,
      );
    }
  }
  const forgotten = present.filter(
    ({ containerId, phase, task }) =>
      phase === TaskPhase.SERVING &&
      book.of(containerId)?.task === task &&
      !failed.has(task) &&
      !views.some((view) => view.task === task),
  );
  const found = await Promise.all([
    ...views.map((view) => findOne(context, view, containers.get(view.containerId), views)),
    // The end is in the agent's last log line, or unknown.
    ...forgotten.map((task) => bury(context, task, undefined)),
  ]);
  const past = book.all().filter(({ phase }) => phase === TaskPhase.GONE);
  const unseen = [...failed].map(([task, failure]) => unseenWorkload(context, task, failure));
  // The last one of a container counts: what runs.
  return [...past.map(workloadOf), ...found.filter((workload) => workload !== undefined), ...unseen];
}

/**
 * One container by its own task, like {@link list}. If neither the cloud nor the agent has reported anything for long,
 * the task is stopped, which ends its run.
 *
 * @throws CloudError: the cloud does not describe the task, or does not stop it
 */
export async function find(context: TaskContext, containerId: string): Promise<FoundWorkload | undefined> {
  const { book, departures } = context;
  const task = book.of(containerId);
  if (task === undefined || task.phase === TaskPhase.GONE || task.task === "") {
    return task && knownOf(context, task);
  }
  let found: FoundWorkload | undefined;
  const view = await lookAt(context, task);
  if (view === undefined) {
    await departures.stop(task.task, "neither its agent nor the cloud tells of it");
    await conclude(context, task, "untold");
  } else if (view !== "missing") {
    found = await knownWorkload(context, task, view);
  } else if (task.phase === TaskPhase.SERVING) {
    found = await bury(context, task, undefined);
  }
  const now = book.of(containerId);
  return found ?? (now?.phase === TaskPhase.SERVING ? undefined : now && workloadOf(now));
}

/**
 * Describes the task of a container whose agent does not answer.
 *
 * @returns undefined if it is given up after a long silence of the cloud
 * @throws CloudError: the cloud does not describe it now
 */
async function lookAt(
  { poller, silences, clock }: TaskContext,
  { task, phase }: TaskRecord,
): Promise<TaskView | "missing" | undefined> {
  const isGivenUp = (): boolean => {
    const nowMs = clock.nowMs();
    return nowMs - silences.met(task, nowMs) >= silenceLimitMs && phase === TaskPhase.SERVING;
  };
  let view: TaskView | "missing";
  try {
    view = await poller.look(task);
  } catch (error) {
    if (isRefusal(error) && isGivenUp()) {
      return undefined;
    }
    throw error; // An unreachable cloud may answer later; its agents may be unreachable for the same reason.
  }
  if (view === "missing" || !view.isUntold) {
    silences.ended(task);
    return view;
  }
  return isGivenUp() ? undefined : view;
}

/**
 * Lists containers from the records alone, if the cloud cannot be reached: a container that ran counts as running, and
 * its agent will report.
 */
export function listKnown(context: TaskContext): readonly FoundWorkload[] {
  return context.book.all().map((task) => knownOf(context, task));
}

/** A task that the cloud refused to describe; its container may be in the records. */
function unseenWorkload(context: TaskContext, task: string, failure: unknown): FoundWorkload {
  const { book, logger } = context;
  logger.warn({ task, err: failure }, `cannot ask for the state of a task: ${messageOf(failure)}`);
  const known = book.all().find((each) => each.task === task);
  return known === undefined ? unansweredOf({ containerId: task, generation: 0n }) : knownOf(context, known);
}

/** A container whose state is unknown now: it is queried again. */
function unansweredOf({
  containerId,
  generation,
}: Pick<TaskView, "containerId" | "generation">): FoundWorkload {
  return {
    containerId,
    generation,
    agent: undefined,
    boundPorts: [],
    exit: undefined,
    execExits: new Map(),
    unanswered: true,
  };
}

/**
 * A container without a process, of which a later start runs. Only its agent's answer counts: the start that takes it up would
 * fail without, and the next one would end it.
 */
async function laterRunOf(
  view: TaskView,
  known: ContainerRecord | undefined,
  ask: () => Promise<bigint | undefined>,
): Promise<FoundWorkload | undefined> {
  if (known?.phase !== Phase.UNSPECIFIED || hasProcess(known)) {
    return undefined;
  }
  const generation = (await ask()) ?? 0n;
  const isLater = generation > known.generation;
  return isLater ? { ...unansweredOf(view), generation, unanswered: false, laterRuns: true } : undefined;
}

async function findOne(
  context: TaskContext,
  view: TaskView,
  known: ContainerRecord | undefined,
  all: readonly TaskView[],
): Promise<FoundWorkload | undefined> {
  const { book } = context;
  const task = book.of(view.containerId);
  if (task === undefined && !isOfLater(view, known)) {
    const isLeaving = view.stopping || context.departures.expects(view.task);
    return isLeaving ? undefined : await strangeWorkload(context, view);
  }
  if (task !== undefined && task.phase !== TaskPhase.GONE) {
    if (
      task.task === view.task &&
      task.phase === TaskPhase.SERVING &&
      known === undefined &&
      !view.stopping
    ) {
      return await strangeWorkload(context, view); // Its agent has answered, but the container was not adopted.
    }
    if (task.task === view.task) {
      const isAsked =
        task.phase === TaskPhase.LINGERING && !book.hasWritten(view.containerId) && !view.stopping;
      const later = isAsked ? await laterRunOf(view, known, () => servesLater(context, task)) : undefined;
      return later ?? (await knownWorkload(context, task, view));
    }
    const isAskedFor = view.prepared === undefined; // A claim records the task first: without the record it has failed.
    if (task.task === "" && isAskedFor && task.launchGeneration === view.generation) {
      await book.noteTask(view.containerId, view.task); // The cloud's answer was lost.
      return workloadOf(task);
    }
  }
  if (view.stopping) {
    return undefined;
  }
  // Starts are recorded before they are requested: after the restore of a backup the state is older than the cloud.
  const isLater = task === undefined || view.generation > task.launchGeneration || replaces(view, task, all);
  if (isLater ? context.later.get(view.containerId) !== view.task : !book.isWhole) {
    context.logger.warn(
      { container: view.containerId, task: view.task },
      isLater
        ? "a task of a later start than the state knows runs; it is left alone"
        : "a task runs that the state, which is damaged, does not know; it is left alone",
    );
  }
  if (isLater) {
    context.later.set(view.containerId, view.task);
    return await laterRunOf(
      view,
      known,
      async () => (await describeLater(context, view))?.record?.generation,
    );
  }
  if (book.isWhole) {
    // A task that its container no longer uses, or never knew.
    context.departures.expect(view.task, context.clock.nowMs(), () => Promise.resolve());
  }
  return undefined;
}

/** Whether a task has taken the place of its start's recorded one, which has ended before its agent answered. */
function replaces(view: TaskView, known: TaskRecord, all: readonly TaskView[]): boolean {
  const isAsked = known.phase === TaskPhase.UNSPECIFIED && view.generation === known.launchGeneration;
  return isAsked && !all.some(({ task, stopping }) => task === known.task && !stopping);
}

/**
 * Whether a task is of a later start than that of a container which the state knows to be made. A start that is under way has
 * requested none without a record: its task may have been used again.
 */
function isOfLater({ generation }: TaskView, known: ContainerRecord | undefined): boolean {
  const isAhead =
    known?.phase === Phase.STARTING ? generation >= known.generation : generation > (known?.generation ?? 0n);
  return known !== undefined && known.phase !== Phase.CREATING && isAhead;
}

async function knownWorkload(
  context: TaskContext,
  task: TaskRecord,
  view: TaskView,
): Promise<FoundWorkload | undefined> {
  const isOver = hasEnded(view);
  if (task.phase === TaskPhase.SERVING && isOver) {
    return await bury(context, task, viewOfRun(task, view));
  }
  if (isOver) {
    context.agents.forget(task);
  }
  if (task.phase === TaskPhase.LINGERING && isOver) {
    await context.book.note(task.containerId, { phase: TaskPhase.GONE });
    return undefined;
  }
  return knownOf(context, task);
}

/** The end of a run; undefined if unknown. @param view undefined: the cloud no longer knows its task */
async function readEnd(
  context: TaskContext,
  task: TaskRecord,
  view: TaskView | undefined,
): Promise<FoundExit | undefined> {
  const now = new Date(context.clock.nowMs());
  if (view?.exitCode !== undefined) {
    return exitOfTask(view, now);
  }
  const { exit, untold } = await context.ends.of(task);
  if (exit !== undefined || (view === undefined && untold === "")) {
    return exit;
  }
  return withUntold(context, view === undefined ? lostExit(now) : exitOfTask(view, now), untold);
}

/** An end according to the cloud, with the reason why the agent's report is missing. */
function withUntold({ cloud }: TaskContext, exit: FoundExit, untold: string): FoundExit {
  if (untold === "") {
    return exit;
  }
  const why = `its exit code is not to be had from ${cloud.names.log}, because ${untold}`;
  return { ...exit, error: [exit.error ?? "", why].filter((each) => each !== "").join("; ") };
}

/**
 * Records the end of a run, unless its agent still answers: a platform gives up a task that it has lost sight of, and says
 * no exit code then.
 *
 * @param view as {@link viewOfRun} has it; undefined: the cloud no longer knows the task
 * @returns undefined if the container is gone
 */
async function bury(
  context: TaskContext,
  task: TaskRecord,
  view: TaskView | undefined,
): Promise<FoundWorkload | undefined> {
  const { agents, book, logger, abandoned } = context;
  const { containerId } = task;
  if (view?.exitCode === undefined && (await agents.answers(task))) {
    return presentOf(context, containerId);
  }
  agents.forget(task);
  let exit: FoundExit | undefined;
  try {
    exit = await readEnd(context, task, view);
  } catch (error) {
    abandoned.throwIfAborted();
    logger.warn(
      { container: containerId, task: task.task, err: error },
      `the end of a container cannot be read yet, and is asked for again: ${messageOf(error)}`,
    );
    return presentOf(context, containerId);
  }
  if (book.of(containerId) === task && exit !== undefined) {
    await leaveLogToCloud(context, task); // Its agent is gone with the part of the log that was not copied.
  }
  if (book.of(containerId) !== task) {
    return presentOf(context, containerId); // It was released, removed or restarted meanwhile.
  }
  if (exit !== undefined) {
    await book.noteEnd(containerId, exit, TaskPhase.GONE);
  }
  return undefined;
}

/** The container in its recorded state; undefined if it is gone. */
function presentOf(context: TaskContext, containerId: string): FoundWorkload | undefined {
  const task = context.book.of(containerId);
  return task === undefined || task.phase === TaskPhase.GONE ? undefined : knownOf(context, task);
}

/** A task of ours that the state does not know: its agent may have the record. */
async function strangeWorkload(context: TaskContext, view: TaskView): Promise<FoundWorkload | undefined> {
  const { agents, book, logger } = context;
  const about = { container: view.containerId, task: view.task };
  const before = book.of(view.containerId);
  if (view.address === undefined) {
    return await doomed(context, view);
  }
  const place = { task: view.task, address: view.address, launchGeneration: view.generation };
  try {
    const { record, images, address, pin } = await agents.describe(view.containerId, place);
    if (book.of(view.containerId) !== before) {
      return presentOf(context, view.containerId);
    }
    if (record === undefined) {
      logger.warn(about, "a task runs whose agent does not say what it was started with; it is stopped");
      return await doomed(context, view);
    }
    const task = await book.noteTask(view.containerId, view.task, {
      launchGeneration: view.generation,
      generation: record.generation,
      address,
      agentPin: pin,
      phase: TaskPhase.SERVING,
    });
    return { ...workloadOf(task), agent: agents.addressOf(task), record, images };
  } catch (error) {
    logger.warn(
      { ...about, err: error },
      `a task runs whose agent cannot be asked what it is; it is left alone, and asked again: ${messageOf(error)}`,
    );
    return unansweredOf(view);
  }
}

/** It will never be started: the engine removes it, like anything without agent and record. */
async function doomed(context: TaskContext, view: TaskView): Promise<FoundWorkload> {
  const task = await context.book.noteTask(view.containerId, view.task, {
    launchGeneration: view.generation,
    generation: view.generation,
    phase: TaskPhase.UNSPECIFIED,
  });
  return workloadOf(task);
}

/** The container in its recorded state: one that serves counts as running. */
function knownOf({ agents }: TaskContext, task: TaskRecord): FoundWorkload {
  const serving = { agent: agents.addressOf(task), address: agents.containerAddressOf(task) };
  return { ...workloadOf(task), ...(task.phase === TaskPhase.SERVING && serving) };
}

/** The container in its recorded state, with its end if it has ended. */
function workloadOf(task: TaskRecord): FoundWorkload {
  return {
    containerId: task.containerId,
    generation: task.generation,
    agent: undefined,
    boundPorts: [],
    exit: endOf(task),
    execExits: new Map(),
  };
}
