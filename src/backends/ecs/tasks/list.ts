/** What there is of this instance's containers, as AWS and their agents tell. */
import { messageOf } from "../../../common/errors.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundWorkload } from "../../common/driver.ts";
import { findTasks } from "./find-tasks.ts";
import { exitOfTask } from "./reasons.ts";
import { endOf } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";
import { hasEnded, type TaskView } from "./task-view.ts";

/**
 * Everything that is found, one entry a container. Tasks that nobody remembers are asked what they are.
 *
 * @param containers that the state knows: it may have lost, or not got yet, one that the books have
 */
export async function list(
  context: TaskContext,
  containers: Pick<ReadonlyMap<string, unknown>, "has">,
): Promise<readonly FoundWorkload[]> {
  const { book, run } = context;
  const present = book.all().filter(({ phase }) => phase !== TaskPhase.GONE);
  const known = present.map(({ task }) => task).filter((arn) => arn !== "");
  const views = await findTasks(known, { ...context, instance: run.instance, cluster: run.cluster });
  const found = await Promise.all(
    views.map((view) => findOne(context, view, containers.has(view.containerId))),
  );
  const past = book.all().filter(({ phase }) => phase === TaskPhase.GONE);
  return [...found.filter((workload) => workload !== undefined), ...past.map(workloadOf)];
}

/**
 * What the books alone say, where AWS cannot be asked: what ran is taken to run, and its agent will tell.
 */
export function listKnown(context: TaskContext): readonly FoundWorkload[] {
  return context.book.all().map((task) => ({
    ...workloadOf(task),
    agent: task.phase === TaskPhase.SERVING ? context.agents.addressOf(task) : undefined,
  }));
}

async function findOne(
  context: TaskContext,
  view: TaskView,
  isKnown: boolean,
): Promise<FoundWorkload | undefined> {
  const task = context.book.of(view.containerId);
  if (task === undefined) {
    return view.stopping ? undefined : await strangeWorkload(context, view);
  }
  const isGone = task.phase === TaskPhase.GONE;
  if (task.task === view.arn && task.phase === TaskPhase.SERVING && !isKnown && !view.stopping) {
    return await strangeWorkload(context, view); // It has answered, and was not taken over.
  }
  if (task.task === view.arn && !isGone) {
    return await knownWorkload(context, task, view);
  }
  if (task.task === "" && !isGone && task.launchGeneration === view.generation) {
    await context.book.noteTask(view.containerId, view.arn); // AWS's answer was lost.
    return workloadOf(task);
  }
  if (!view.stopping) {
    // One that its container has done with, or never heard of.
    context.departures.expect(view.arn, context.clock.nowMs(), () => Promise.resolve());
  }
  return undefined;
}

async function knownWorkload(
  context: TaskContext,
  task: TaskRecord,
  view: TaskView,
): Promise<FoundWorkload | undefined> {
  const isOver = hasEnded(view);
  if (task.phase === TaskPhase.SERVING && !isOver) {
    return { ...workloadOf(task), agent: context.agents.addressOf(task) };
  }
  if (task.phase === TaskPhase.SERVING) {
    const exit = exitOfTask(view, new Date(context.clock.nowMs()));
    await context.book.noteEnd(task.containerId, exit, TaskPhase.GONE);
    return undefined; // It is among those that are gone now.
  }
  if (task.phase === TaskPhase.LINGERING && isOver) {
    await context.book.note(task.containerId, { phase: TaskPhase.GONE });
    return undefined;
  }
  return workloadOf(task);
}

/** A task of ours that the state does not know: its agent may tell what it is. */
async function strangeWorkload(context: TaskContext, view: TaskView): Promise<FoundWorkload | undefined> {
  const { agents, book, logger } = context;
  const about = { container: view.containerId, task: view.arn };
  if (view.address === undefined) {
    return await doomed(context, view);
  }
  try {
    const { record, images, address, pin } = await agents.describe(view.containerId, view.address);
    if (record === undefined) {
      logger.warn(about, "a task runs whose agent does not say what it was started with; it is stopped");
      return await doomed(context, view);
    }
    await book.noteTask(view.containerId, view.arn);
    const task = await book.note(view.containerId, {
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
    return {
      containerId: view.containerId,
      generation: view.generation,
      agent: undefined,
      boundPorts: [],
      exit: undefined,
      execExits: new Map(),
      unanswered: true,
    };
  }
}

/** Nobody will ever start it: the engine has it removed, as it does with whatever has no agent and no record. */
async function doomed(context: TaskContext, view: TaskView): Promise<FoundWorkload> {
  await context.book.noteTask(view.containerId, view.arn);
  const task = await context.book.note(view.containerId, {
    launchGeneration: view.generation,
    generation: view.generation,
    phase: TaskPhase.UNSPECIFIED,
  });
  return workloadOf(task);
}

/** What the books say of a container: its end, where it has ended. */
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
