import { DescribeTasksCommand, type ECSClient, ListTasksCommand, StopTaskCommand } from "@aws-sdk/client-ecs";

import { shortId } from "../../../common/ids.ts";
import type { AwsService } from "../aws/clients.ts";
import { type TaskView, viewOf } from "../tasks/task-view.ts";
import type { Known, Orphan } from "./orphan.ts";

/** Of one call of DescribeTasks. */
const page = 100;

/** Tasks of an instance that run. @throws AwsError */
export async function runningTasks(
  ecs: AwsService<ECSClient>,
  cluster: string,
  instance: string,
): Promise<TaskView[]> {
  const arns: string[] = [];
  let nextToken: string | undefined;
  do {
    const listed = await ecs.send(new ListTasksCommand({ cluster, startedBy: instance, nextToken }));
    arns.push(...(listed.taskArns ?? []));
    nextToken = listed.nextToken;
  } while (nextToken !== undefined);
  const found: TaskView[] = [];
  for (let at = 0; at < arns.length; at += page) {
    const tasks = arns.slice(at, at + page);
    const described = await ecs.send(new DescribeTasksCommand({ cluster, tasks }));
    found.push(...(described.tasks ?? []).map(viewOf));
  }
  return found;
}

/**
 * Tasks of this instance's that run a container which the state does not know. A backend that starts takes over one whose
 * agent answers; one whose agent does not may only be out of reach.
 *
 * @param answers whether a container's agent does so at an address
 */
export async function orphanedTasks(
  ecs: AwsService<ECSClient>,
  cluster: string,
  own: string,
  known: Known,
  answers: (containerId: string, address: string) => Promise<boolean>,
): Promise<Orphan[]> {
  const tasks = await runningTasks(ecs, cluster, own);
  const unknown = tasks.filter(({ containerId }) => !known.hasContainer(containerId));
  return await Promise.all(
    unknown.map(async ({ arn, containerId, address }) => ({
      kind: "task",
      id: arn,
      purpose: `container ${shortId(containerId)}${address === undefined ? "" : hint(await answers(containerId, address))}`,
      instance: own,
      async remove() {
        await ecs.send(new StopTaskCommand({ cluster, task: arn, reason: "sockerless ecs prune --orphans" }));
        return undefined;
      },
    })),
  );
}

/** What becomes of a container that runs, for whoever is about to have it stopped. */
function hint(isAnswering: boolean): string {
  return isAnswering
    ? ", which a backend that starts takes over"
    : ", whose agent does not answer: it may run, and a backend that starts takes it over once it does";
}
