/** Output of containers on its way to CloudWatch Logs, as the awslogs driver sends it. */
import type { ContainerDefinition } from "@aws-sdk/client-ecs";

import type { Cloud } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import { AwsFault, type Given } from "../../wire/service.ts";
import { StartFailed } from "./start-failures.ts";

/** Takes lines of a container's output. */
export type LineSink = (lines: readonly string[]) => void;

/**
 * Opens a container's log stream; where the definition names no log driver, output goes nowhere.
 *
 * @throws {StartFailed} when there is no such group, or the execution role may not write to it
 */
export function openLogStream(
  context: Context,
  { logGroups }: Cloud,
  { name = "", logConfiguration }: Given<ContainerDefinition>,
  taskId: string,
  executionRoleArn: string | undefined,
): LineSink {
  if (logConfiguration === undefined) {
    return () => {};
  }
  const options = logConfiguration.options ?? {};
  const group = options["awslogs-group"] ?? "";
  const stream = `${options["awslogs-stream-prefix"] ?? ""}/${name}/${taskId}`;
  const resource = arnOf(context, "logs", `log-group:${group}`);
  const role = executionRoleArn === undefined ? undefined : context.iam.role(executionRoleArn);
  const demand = (action: string): void => {
    if (role === undefined || !context.iam.roleMay(role, { action, resource: `${resource}:*` })) {
      const message = `AccessDeniedException: User: ${executionRoleArn ?? ""} is not authorized to perform: ${action} on resource: ${resource}:log-stream:${stream} because no identity-based policy allows the ${action} action`;
      throw notOpened(message);
    }
  };
  demand("logs:CreateLogStream");
  demand("logs:PutLogEvents");
  try {
    logGroups.createStream(group, stream);
  } catch (error) {
    throw error instanceof AwsFault ? notOpened(`${error.code}: ${error.message}`) : error;
  }
  return (lines) => {
    try {
      logGroups.putLines(group, stream, lines);
    } catch (error) {
      // The driver has nobody to tell that the group was deleted meanwhile.
      if (!(error instanceof AwsFault)) {
        throw error;
      }
    }
  };
}

function notOpened(reason: string): StartFailed {
  return new StartFailed(
    `ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: ${reason} : exit status 1`,
  );
}
