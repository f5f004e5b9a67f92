import { DescribeTasksCommand, type ECSClient, ListTasksCommand, StopTaskCommand } from "@aws-sdk/client-ecs";

import type { AwsService } from "../aws/clients.ts";
import { viewOf } from "../tasks/task-view.ts";
import type { Known, Orphan } from "./orphan.ts";

/** Of one call of DescribeTasks. */
const page = 100;

/** Tasks of an instance that run, with the IDs of their containers. @throws AwsError */
export async function runningTasks(
  ecs: AwsService<ECSClient>,
  cluster: string,
  instance: string,
): Promise<{ readonly arn: string; readonly containerId: string }[]> {
  const arns: string[] = [];
  let nextToken: string | undefined;
  do {
    const listed = await ecs.send(new ListTasksCommand({ cluster, startedBy: instance, nextToken }));
    arns.push(...(listed.taskArns ?? []));
    nextToken = listed.nextToken;
  } while (nextToken !== undefined);
  const found: { readonly arn: string; readonly containerId: string }[] = [];
  for (let at = 0; at < arns.length; at += page) {
    const tasks = arns.slice(at, at + page);
    const described = await ecs.send(new DescribeTasksCommand({ cluster, tasks }));
    found.push(...(described.tasks ?? []).map(viewOf).map(({ arn, containerId }) => ({ arn, containerId })));
  }
  return found;
}

/** Tasks of this instance's that run a container which the state does not know. */
export async function orphanedTasks(
  ecs: AwsService<ECSClient>,
  cluster: string,
  own: string,
  known: Known,
): Promise<Orphan[]> {
  const tasks = await runningTasks(ecs, cluster, own);
  return tasks
    .filter(({ containerId }) => !known.hasContainer(containerId))
    .map(({ arn, containerId }) => ({
      kind: "task",
      id: arn,
      purpose: `container ${containerId.slice(0, 12)}`,
      instance: own,
      async remove() {
        await ecs.send(new StopTaskCommand({ cluster, task: arn, reason: "sockerless ecs prune --orphans" }));
        return undefined;
      },
    }));
}
