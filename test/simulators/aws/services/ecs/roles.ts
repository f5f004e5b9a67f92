/** The roles that tasks are given. */
import type { Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault } from "../../wire/service.ts";

const tasksService = "ecs-tasks.amazonaws.com";

/** Whether a setting that is given is a role's ARN, with or without a path. */
export function isRole(roleArn: string | undefined): boolean {
  return (
    roleArn === undefined ||
    /^arn:aws[a-z-]*:iam::\d{12}:role\/([\x21-\x7e]+\/)*[\w+=,.@-]{1,64}$/.test(roleArn)
  );
}

/** The permission to give tasks these roles. */
export function passRole(...roleArns: readonly (string | undefined)[]): AccessRequest[] {
  return [...new Set(roleArns)]
    .filter((arn) => arn !== undefined)
    .map((resource) => ({
      action: "iam:PassRole",
      resource,
      context: { "iam:PassedToService": tasksService },
    }));
}

/** @throws AwsFault `ClientException` for a role that there is not, or that does not trust tasks */
export function checkAssumable({ iam }: Context, roleArn: string | undefined): void {
  if (roleArn !== undefined && iam.role(roleArn)?.trusted.includes(tasksService) !== true) {
    throw new AwsFault(
      "ClientException",
      `ECS was unable to assume the role '${roleArn}' that was provided for this task. Please verify that the role being passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this role.`,
    );
  }
}
