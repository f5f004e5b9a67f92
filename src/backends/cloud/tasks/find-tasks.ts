/** Finds all tasks of this instance: recorded ones, and those that only the cloud knows. */
import type { LatestOnly } from "../../concurrency/latest-only.ts";
import type { CloudTasks, TaskView } from "../contract/cloud-tasks.ts";
import { type AllDescribed, whole } from "./describe-all.ts";
import type { TaskPoller } from "./poller.ts";
import type { TaskBook } from "./task-book.ts";

/** Dependencies of the search. */
export interface FindOptions {
  readonly cloud: Pick<CloudTasks, "listOwn">;
  readonly instance: string;
  readonly poller: Pick<TaskPoller, "describe">;
  readonly book: Pick<TaskBook, "all">;
}

/** The tasks of this instance. */
export interface FoundTasks extends AllDescribed {
  /** Prepared tasks that no container has claimed. */
  readonly waiting: readonly TaskView[];
}

/**
 * Finds the tasks of this instance.
 *
 * @param known tasks to query by name, as a cloud lists only those that should be running, but describes stopped ones
 *   for a while
 */
export async function findTasks(
  known: readonly string[],
  { cloud, instance, poller, book }: FindOptions,
): Promise<FoundTasks> {
  const tasks = new Set([...known, ...(await cloud.listOwn())]);
  const { views, failed } = await poller.describe([...tasks]);
  const recorded = new Set(known); // One of another authority, as with another agent_ca, runs all the same.
  const own = views
    .filter((view) => view.instance === instance || recorded.has(view.task))
    .map((view) => claimedBy(view, book));
  return {
    views: own.filter(({ containerId }) => containerId !== ""),
    waiting: own.filter(({ containerId, prepared }) => containerId === "" && prepared !== undefined),
    failed,
  };
}

/**
 * Assigns a prepared task to the container whose record names it: the cloud may not report that yet, or no longer, once
 * the task is being stopped.
 */
function claimedBy(view: TaskView, book: Pick<TaskBook, "all">): TaskView {
  if (view.prepared === undefined || view.containerId !== "") {
    return view;
  }
  const record = book.all().find(({ task }) => task === view.task);
  return record === undefined
    ? view
    : { ...view, containerId: record.containerId, generation: record.launchGeneration };
}

/** Dependencies of the search for one start's tasks. */
export interface FindOfStartOptions extends FindOptions {
  /** Searches that are shared by those who ask before they begin, as many starts may end at once. */
  readonly searches: LatestOnly<readonly TaskView[]>;
}

/** Finds all tasks of one start of a container, recorded or not. @throws the error of any call */
export async function tasksOfStart(
  options: FindOfStartOptions,
  containerId: string,
  generation: bigint,
): Promise<readonly TaskView[]> {
  const views = await options.searches.run(async () => whole(await findTasks([], options)));
  return views.filter((view) => view.containerId === containerId && view.generation === generation);
}
