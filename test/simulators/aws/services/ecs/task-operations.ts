/** The operations on tasks. */

import { arnOf, type Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, type Operation, operations } from "../../wire/service.ts";
import { requestTagContext, resourceTagContext } from "../tags.ts";
import type { Clusters } from "./clusters.ts";
import type { Definitions } from "./definitions.ts";
import { ecsPage, type EcsTags, ecsTagMap } from "./ecs-tags.ts";
import { notSimulated } from "./not-simulated.ts";
import { passRole } from "./roles.ts";
import { checkTaskReference, invalid } from "./run-task-request.ts";
import type { TaskRun } from "./task-run.ts";
import type { Tasks } from "./tasks.ts";

/** The operations on tasks. */
export function taskOperations(
  context: Context,
  clusters: Clusters,
  definitions: Definitions,
  tasks: Tasks,
  tags: EcsTags,
): Readonly<Record<string, Operation>> {
  const inCluster = (cluster: string | undefined) => ({ "ecs:cluster": clusters.arnOf(cluster) });
  const onTask = (action: string, cluster: string | undefined, reference: string): AccessRequest => {
    const clusterArn = clusters.arnOf(cluster);
    const name = clusterArn.slice(clusterArn.lastIndexOf("/") + 1);
    const id = reference.slice(reference.lastIndexOf("/") + 1);
    const resource = arnOf(context, "ecs", `task/${name}/${id}`);
    return {
      action: `ecs:${action}`,
      resource,
      context: { ...inCluster(cluster), ...resourceTagContext(tags.of(resource)) },
    };
  };
  const checkReference = (reference: string, cluster: string | undefined): void => {
    checkTaskReference(reference);
    const named = /:task\/([^/]+)\//.exec(reference)?.[1];
    const name = clusters.get(cluster).name;
    if (named !== undefined && named !== name) {
      throw invalid(`Invalid identifier: Identifier is for cluster ${named}. Your cluster is ${name}`);
    }
  };
  const visible = (clusterArn: string, reference: string): TaskRun | undefined => {
    const run = tasks.find(clusterArn, reference);
    return run !== undefined && tasks.isVisible(run.task) ? run : undefined;
  };

  return operations<typeof import("@aws-sdk/client-ecs")>({
    RunTask: {
      access: (input) => {
        const definition = definitions.find(input.taskDefinition ?? "");
        const tagContext = requestTagContext(ecsTagMap(input.tags));
        const { overrides = {} } = input;
        const clusterName = clusters.arnOf(input.cluster).split("/").at(-1) ?? "";
        return [
          {
            action: "ecs:RunTask",
            resource: definition?.taskDefinitionArn ?? definitions.arnOf(input.taskDefinition ?? ""),
            context: { ...inCluster(input.cluster), ...tagContext },
          },
          ...passRole(
            overrides.taskRoleArn ?? definition?.taskRoleArn,
            overrides.executionRoleArn ?? definition?.executionRoleArn,
          ),
          ...((input.tags ?? []).length === 0
            ? []
            : [
                {
                  action: "ecs:TagResource",
                  resource: arnOf(context, "ecs", `task/${clusterName}/*`),
                  context: { ...tagContext, ...inCluster(input.cluster), "ecs:CreateAction": "RunTask" },
                },
              ]),
        ];
      },
      run: (input) => {
        const cluster = clusters.get(input.cluster);
        const definition = definitions.find(input.taskDefinition ?? "");
        if (definition === undefined) {
          throw new AwsFault("ClientException", "TaskDefinition not found.");
        }
        if (definition.status !== "ACTIVE") {
          throw new AwsFault("ClientException", "TaskDefinition is inactive");
        }
        const { tasks: started, failures } = tasks.launch(input, cluster, definition);
        return {
          tasks: started.map((task) => task.describe(tags.list(task.taskArn))),
          failures: [...failures],
        };
      },
    },

    StopTask: {
      access: ({ cluster, task = "" }) => [onTask("StopTask", cluster, task)],
      run: ({ cluster, task = "", reason = "Task stopped by user" }) => {
        checkReference(task, cluster);
        const run = visible(clusters.arnOf(cluster), task);
        if (run === undefined) {
          throw invalid("The referenced task was not found.");
        }
        tasks.stop(run, reason);
        return { task: run.task.describe() };
      },
    },

    /** Tags tasks alone. */
    TagResource: {
      access: ({ resourceArn = "", tags: given }) => [
        {
          action: "ecs:TagResource",
          resource: resourceArn,
          context: {
            ...requestTagContext(ecsTagMap(given)),
            ...resourceTagContext(tags.of(resourceArn)),
          },
        },
      ],
      run: ({ resourceArn = "", tags: given }) => {
        checkTaskReference(resourceArn);
        const run = tasks.runs().find(({ task }) => task.taskArn === resourceArn);
        if (run === undefined) {
          throw new AwsFault("ResourceNotFoundException", "The specified resource was not found.");
        }
        if (run.task.desiredStatus === "STOPPED") {
          throw invalid("The specified task is stopped. Specify a running task and try again.");
        }
        tags.set(resourceArn, { ...tags.of(resourceArn), ...ecsTagMap(given) });
        return {};
      },
    },

    DescribeTasks: {
      access: ({ cluster, tasks: references = [] }) =>
        references.map((reference) => onTask("DescribeTasks", cluster, reference)),
      run: ({ cluster, tasks: references = [], include = [] }) => {
        clusters.get(cluster);
        if (references.length === 0) {
          throw invalid("Tasks cannot be empty.");
        }
        if (references.length > 100) {
          throw invalid("tasks can have at most 100 items.");
        }
        for (const reference of references) {
          checkReference(reference, cluster);
        }
        const clusterArn = clusters.arnOf(cluster);
        const found = [];
        const failures = [];
        for (const reference of new Set(references)) {
          const run = visible(clusterArn, reference);
          if (run === undefined) {
            const id = reference.slice(reference.lastIndexOf("/") + 1);
            const name = clusterArn.slice(clusterArn.lastIndexOf("/") + 1);
            const arn = reference === id ? arnOf(context, "ecs", `task/${name}/${id}`) : reference;
            failures.push({ arn, reason: "MISSING" });
          } else {
            const { task } = run;
            found.push(task.describe(include.includes("TAGS") ? tags.list(task.taskArn) : []));
          }
        }
        return { tasks: found, failures };
      },
    },

    ListTasks: {
      access: ({ cluster }) => [{ action: "ecs:ListTasks", resource: "*", context: inCluster(cluster) }],
      run: (input) => {
        const { cluster, startedBy, desiredStatus, maxResults, nextToken, ...others } = input;
        if (Object.keys(others).length > 0) {
          throw notSimulated(Object.keys(others).join());
        }
        if (startedBy !== undefined && desiredStatus !== undefined) {
          throw invalid("startedBy must be the only filter.");
        }
        clusters.get(cluster);
        const clusterArn = clusters.arnOf(cluster);
        const found = tasks
          .runs()
          .filter(
            ({ task }) =>
              tasks.isVisible(task) &&
              task.clusterArn === clusterArn &&
              task.desiredStatus === (desiredStatus === "STOPPED" ? "STOPPED" : "RUNNING") &&
              (startedBy === undefined || task.startedBy === startedBy),
          );
        const page = ecsPage(
          found.map(({ task }) => task.taskArn),
          nextToken,
          maxResults,
        );
        return { taskArns: page.items, nextToken: page.next };
      },
    },
  });
}
