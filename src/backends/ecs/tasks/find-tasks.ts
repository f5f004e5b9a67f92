/** Every task of this instance that there is: those on the books, and those that only AWS knows. */
import { type ECSClient, ListTasksCommand } from "@aws-sdk/client-ecs";

import type { AwsService } from "../aws/clients.ts";
import type { TaskPoller } from "./poller.ts";
import type { TaskView } from "./task-view.ts";

/** What tasks are looked for with. */
export interface FindOptions {
  readonly ecs: AwsService<ECSClient>;
  readonly cluster: string;
  readonly instance: string;
  readonly poller: TaskPoller;
}

const pageSize = 100;

/**
 * Looks for the tasks of this instance.
 *
 * @param known ARNs of tasks that are asked for by name: AWS lists only those that are meant to run, and shows stopped
 *   ones for an hour
 */
export async function findTasks(
  known: readonly string[],
  { ecs, cluster, instance, poller }: FindOptions,
): Promise<readonly TaskView[]> {
  const arns = new Set(known);
  let nextToken: string | undefined;
  do {
    const page = await ecs.send(
      new ListTasksCommand({
        cluster,
        startedBy: instance, // AWS takes no other filter beside it.
        maxResults: pageSize,
        ...(nextToken === undefined ? {} : { nextToken }),
      }),
    );
    for (const arn of page.taskArns ?? []) {
      arns.add(arn);
    }
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  const views = await poller.describe([...arns]);
  return views.filter((view) => view.startedBy === instance && view.containerId !== "");
}
