/** Later starts than a state knows that is older than its tasks, as after the restore of a backup. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { messageOf } from "../../../common/errors.ts";
import {
  type ContainerRecord,
  type TaskRecord,
  TaskPhase,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { hasProcess } from "../../model/records.ts";
import type { Described } from "../agents/task-agents.ts";
import { hasEnded, type TaskView } from "../contract/cloud-tasks.ts";
import type { FoundTasks } from "./find-tasks.ts";
import type { TaskContext } from "./task-context.ts";

/**
 * The later start than its record that a task serves, if any, as one that lingered, or had not been told to run, when the state was
 * backed up. If so it is left to the container's start, or its removal.
 */
export async function servesLater(
  { agents, later, logger }: TaskContext,
  task: TaskRecord,
): Promise<bigint | undefined> {
  const generation = await agents.laterStartOf(task);
  if (generation === undefined) {
    return undefined;
  }
  logger.warn(
    { container: task.containerId, task: task.task },
    "a task serves a later start than the state knows; it is left alone",
  );
  later.set(task.containerId, task.task);
  return generation;
}

/**
 * Leaves a task alone that serves a later start than its record, which an earlier process has written. It is recorded as one that
 * lingers, as with one that is gone it would be stopped as nobody's.
 *
 * @returns the number of that start; undefined if it serves none
 */
export async function leftToLater(context: TaskContext, task: TaskRecord): Promise<bigint | undefined> {
  const generation = await servesLater(context, task);
  if (generation === undefined) {
    return undefined;
  }
  const leavesAt = timestampFromMs(context.clock.nowMs());
  await context.book.note(task.containerId, { phase: TaskPhase.LINGERING, leavesAt });
  return generation;
}

/** Records the later start that a running container's own task serves. @returns its number; undefined if there is none */
export async function takeLaterStart(
  { agents, book }: TaskContext,
  containerId: string,
): Promise<bigint | undefined> {
  const task = book.of(containerId);
  const generation = task?.phase === TaskPhase.SERVING ? await agents.laterStartOf(task) : undefined;
  if (generation !== undefined && book.of(containerId) === task) {
    await book.note(containerId, { generation });
    return generation;
  }
  return undefined;
}

/**
 * Records tasks of later starts in the place of those of running containers that have ended since. One whose agent does not
 * answer is left to the container's start.
 */
export async function takeLaterTasks(
  context: TaskContext,
  containers: Pick<ReadonlyMap<string, ContainerRecord>, "get">,
  { views, failed }: Pick<FoundTasks, "views" | "failed">,
): Promise<void> {
  const { book, later } = context;
  const running = new Set([
    ...views.filter((view) => !hasEnded(view)).map(({ task }) => task),
    ...failed.keys(),
  ]);
  await Promise.all(
    views.map(async (view) => {
      const known = book.of(view.containerId);
      const container = containers.get(view.containerId);
      const ranOn = container !== undefined && hasProcess(container);
      const isLater = known?.phase === TaskPhase.SERVING && view.generation > known.launchGeneration;
      const isLeft = view.stopping || later.get(view.containerId) === view.task;
      if (ranOn && isLater && !isLeft && !running.has(known.task)) {
        await takeLaterTask(context, known, view);
      }
    }),
  );
}

async function takeLaterTask(context: TaskContext, known: TaskRecord, view: TaskView): Promise<void> {
  const { book } = context;
  const { containerId, task, generation: launchGeneration } = view;
  const found = await describeLater(context, view);
  if (found?.record !== undefined && book.of(containerId) === known) {
    await book.noteTask(containerId, task, {
      ...{ launchGeneration, generation: found.record.generation, request: "" },
      ...{ address: found.address, agentPin: found.pin },
    });
  }
}

/** Asks the agent of a later start than the state knows for its record. @returns undefined if it does not answer */
export async function describeLater(
  { agents, logger }: TaskContext,
  { containerId, task, address, generation: launchGeneration }: TaskView,
): Promise<Described | undefined> {
  if (address === undefined) {
    return undefined;
  }
  try {
    return await agents.describe(containerId, { task, address, launchGeneration });
  } catch (error) {
    logger.warn(
      { container: containerId, task, err: error },
      `the agent of a later start than the state knows does not answer: ${messageOf(error)}`,
    );
    return undefined;
  }
}
