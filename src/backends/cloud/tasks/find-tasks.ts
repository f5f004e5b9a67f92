/** Every task of this instance that there is: those on the books, and those that only the cloud knows. */
import type { CloudTasks, TaskView } from "../contract/cloud-tasks.ts";
import { type AllDescribed, whole } from "./describe-all.ts";
import type { TaskPoller } from "./poller.ts";

/** Parts of the driver that tasks are looked for with. */
export interface FindOptions {
  readonly cloud: Pick<CloudTasks, "listOwn">;
  readonly instance: string;
  readonly poller: Pick<TaskPoller, "describe">;
}

/**
 * Looks for the tasks of this instance.
 *
 * @param known tasks that are asked for by name: a cloud lists only those that are meant to run, and shows stopped ones
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

/** Looks for the tasks that one start of a container was given, known or not. @throws the failure of any look */
export async function tasksOfStart(
  options: FindOptions,
  containerId: string,
  generation: bigint,
): Promise<readonly TaskView[]> {
  const views = whole(await findTasks([], options));
  return views.filter((view) => view.containerId === containerId && view.generation === generation);
}
