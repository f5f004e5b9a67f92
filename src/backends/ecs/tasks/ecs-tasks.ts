/** Tasks of an ECS cluster, and those that were started in another before the setting was changed. */
import {
  ConflictException,
  DescribeTaskDefinitionCommand,
  DescribeTasksCommand,
  type ECSClient,
  type Failure,
  ListTasksCommand,
  type ListTasksCommandInput,
  RunTaskCommand,
  type RunTaskCommandInput,
  StopTaskCommand,
} from "@aws-sdk/client-ecs";

import type { EcsSection } from "../../../common/config/load.ts";
import { systemError } from "../../../common/errors.ts";
import { pagesOf } from "../../cloud/calls/pages.ts";
import {
  type CloudTasks,
  RequestStale,
  type TaskAnswer,
  type TaskRefusal,
} from "../../cloud/contract/cloud-tasks.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import type { Prospect } from "../../cloud/contract/start-prospect.ts";
import { endsUnreported } from "../../driver/ready-made-roles.ts";
import type { AwsService } from "../aws/clients.ts";
import { AwsError, isAwsError, mayHaveNewCredentials } from "../aws/errors.ts";
import { prospectOfWords } from "../aws/start-prospects.ts";
import { logStreamPrefix, mainContainerName } from "../definitions/definition.ts";
import { formatStream } from "../logs/cloudwatch-log.ts";
import { ownReason } from "./reasons.ts";
import { viewOf } from "./task-view.ts";

/** Settings and dependencies of {@link ecsTasks}. */
export interface EcsTasksOptions {
  readonly ecs: AwsService<ECSClient>;
  readonly cluster: string;
  /** Region and account, as in its tasks' ARNs: `eu-west-1:123456789012`. */
  readonly place: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** CloudWatch's log group of its tasks. */
  readonly logGroup: string;
}

/** Refusals for other reasons than a missing definition. */
const otherReasons: ReadonlySet<Prospect> = new Set(["denied", "room", "capacity"]);
/** Maximum tasks of one DescribeTasks call, and of a page of ListTasks. */
const pageSize = 100;
/** A change of an IAM policy takes some seconds to be effective everywhere. */
const grantDelayMs = 10_000;

/** Region and account of a backend's tasks, whose execution role is of the same account. */
export function placeOfTasks({
  region,
  executionRoleArn,
}: Pick<EcsSection, "region" | "executionRoleArn">): string {
  return `${region}:${executionRoleArn.split(":")[4]}`;
}

/** The tasks of a cluster, named by their ARNs. Every call throws AwsError; a look at those of another account or region, system. */
export function ecsTasks({ ecs, cluster, place, instance, logGroup }: EcsTasksOptions): CloudTasks {
  const placeIn = (arn: string): string => arn.split(":").slice(3, 5).join(":") || place;
  /** AWS refuses a call that names a task of another cluster. */
  const clusterOf = (task: string): string => /:task\/([^/]+)\//.exec(task)?.[1] ?? cluster;

  const list = async (filter: Omit<ListTasksCommandInput, "cluster">): Promise<readonly string[]> => {
    const found: string[] = [];
    const pages = pagesOf(
      (nextToken) => ecs.send(new ListTasksCommand({ cluster, maxResults: pageSize, ...filter, nextToken })),
      (page) => page.nextToken,
    );
    for await (const { taskArns = [] } of pages) {
      found.push(...taskArns);
    }
    return found;
  };

  /** Whether any task is ending: it still counts. */
  const isAnyLeaving = async (): Promise<boolean> => {
    const ending = await list({ desiredStatus: "STOPPED" });
    for (let from = 0; from < ending.length; from += pageSize) {
      const command = new DescribeTasksCommand({ cluster, tasks: ending.slice(from, from + pageSize) });
      const { tasks = [] } = await ecs.send(command);
      if (tasks.some(({ lastStatus }) => lastStatus !== "STOPPED")) {
        return true;
      }
    }
    return false;
  };

  /**
   * Whether the definition of a request was deregistered or deleted: ECS versions refuse a task for that with different
   * words. False if ECS does not answer.
   */
  const isGone = async (request: string, abortSignal: AbortSignal): Promise<boolean> => {
    const { taskDefinition: reference } = JSON.parse(request) as RunTaskCommandInput;
    try {
      const command = new DescribeTaskDefinitionCommand({ taskDefinition: reference });
      return (await ecs.send(command, { abortSignal })).taskDefinition?.status !== "ACTIVE";
    } catch (error) {
      return isAwsError(error, "ClientException", "InvalidParameterException");
    }
  };

  return {
    names: { service: "ECS", run: "RunTask", place: "cluster", log: "CloudWatch", section: "ecs" },
    describedAtOnce: pageSize,
    placeOf: (task) => `${placeIn(task)} ${clusterOf(task)}`,
    tellsPhases: true,

    async run(request, abortSignal): Promise<TaskAnswer> {
      try {
        const command = new RunTaskCommand(JSON.parse(request) as RunTaskCommandInput);
        const { tasks = [], failures = [] } = await ecs.send(command, { abortSignal });
        const task = tasks[0]?.taskArn;
        return task === undefined ? refusalOf(failures) : { task };
      } catch (error) {
        const task = taskOfConflict(error);
        if (task !== undefined) {
          return { task };
        }
        if (error instanceof AwsError) {
          if (isRefusal(error) && !otherReasons.has(error.prospect) && (await isGone(request, abortSignal))) {
            throw new RequestStale(error.message, { cause: error });
          }
          return { reason: error.message, cause: error, prospect: error.prospect };
        }
        throw error;
      }
    },

    async stop(task, reason) {
      try {
        await ecs.send(new StopTaskCommand({ cluster: clusterOf(task), task, reason: ownReason + reason }));
      } catch (error) {
        const gone = ["InvalidParameterException", "ResourceNotFoundException", "ClusterNotFoundException"];
        if (!isAwsError(error, ...gone)) {
          throw error;
        }
      }
    },

    onEnd: endsUnreported,

    async describe(asked, abortSignal) {
      const [first = ""] = asked;
      const command = new DescribeTasksCommand({
        ...{ cluster: clusterOf(first), tasks: [...asked] },
        include: ["TAGS"],
      });
      try {
        const { tasks = [], failures = [] } = await ecs.send(command, { abortSignal });
        return { views: tasks.map(viewOf), missing: failures.map(({ arn = "" }) => arn) };
      } catch (error) {
        const isFormer = clusterOf(first) !== cluster && !cluster.endsWith(`/${clusterOf(first)}`);
        // AWS deletes no cluster whose tasks run.
        if (isFormer && placeIn(first) === place && isAwsError(error, "ClusterNotFoundException")) {
          return { views: [], missing: [...asked] };
        }
        if (isAwsError(error, "ClusterNotFoundException", "InvalidParameterException")) {
          // As no refusal: after one, a task whose agent is silent would be given up in time.
          throw systemError(`${error.message}: ecs.region and the credentials must lead to ${first}`, error);
        }
        if (error instanceof AwsError && mayHaveNewCredentials(error)) {
          throw systemError(error.message, error); // No refusal either: by then others may be given.
        }
        throw error;
      }
    },

    listOwn: () => list({ startedBy: instance }), // AWS allows no other filter in addition.

    async isAnyRunning() {
      const { taskArns = [] } = await ecs.send(new ListTasksCommand({ cluster, maxResults: 1 }));
      return taskArns.length > 0 || (await isAnyLeaving());
    },

    // `arn:aws:ecs:…:task/<cluster>/<ID>` writes to `<prefix>/main/<ID>`.
    logStreamOf: (task) =>
      formatStream(
        logGroup,
        `${logStreamPrefix}/${mainContainerName}/${task.slice(task.lastIndexOf("/") + 1)}`,
      ),
    grantDelayMs,
  };
}

/**
 * The task that already has the token: created by this same start, with a request of an earlier version of sockerless.
 */
function taskOfConflict(error: unknown): string | undefined {
  const cause = isAwsError(error, "ConflictException") ? error.cause : undefined;
  return cause instanceof ConflictException ? cause.resourceIds?.[0] : undefined;
}

/** The refusal in a successful answer without a task. */
function refusalOf(failures: readonly Failure[]): TaskRefusal {
  const reason = describeFailures(failures);
  return { reason, cause: undefined, prospect: prospectOfWords(reason) ?? "passes" };
}

function describeFailures(failures: readonly Failure[]): string {
  const said = failures.map(({ reason = "", detail = "" }) =>
    [reason, detail].filter((text) => text !== "").join(": "),
  );
  return said.length > 0 ? [...new Set(said)].join("; ") : "AWS gave no task and no reason";
}
