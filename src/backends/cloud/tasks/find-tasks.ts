/** Finds all tasks of this instance: recorded ones, and those that only the cloud knows. */
import type { CloudTasks, TaskView } from "../contract/cloud-tasks.ts";
import { type AllDescribed, whole } from "./describe-all.ts";
import type { TaskPoller } from "./poller.ts";

/** Dependencies of the search. */
export interface FindOptions {
  readonly cloud: Pick<CloudTasks, "listOwn">;
  readonly instance: string;
  readonly poller: Pick<TaskPoller, "describe">;
}

/**
 * Finds the tasks of this instance.
 *
 * @param known tasks to query by name, as a cloud lists only those that should be running, but describes stopped ones
 *   for a while
 */
export async function findTasks(
  known: readonly string[],
  { cloud, instance, poller }: FindOptions,
): Promise<AllDescribed> {
  const tasks = new Set([...known, ...(await cloud.listOwn())]);
  const { views, failed } = await poller.describe([...tasks]);
  return { views: views.filter((view) => view.instance === instance && view.containerId !== ""), failed };
}

/** Finds all tasks of one start of a container, recorded or not. @throws the error of any call */
export async function tasksOfStart(
  options: FindOptions,
  containerId: string,
  generation: bigint,
): Promise<readonly TaskView[]> {
  const views = whole(await findTasks([], options));
  return views.filter((view) => view.containerId === containerId && view.generation === generation);
}
