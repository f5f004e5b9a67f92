/** Checks the roles of tasks: whether ECS may assume them, and what they allow. */
import { GetRoleCommand, type IAMClient } from "@aws-sdk/client-iam";

import { messageOf } from "../../../common/errors.ts";
import { gravestOf, ok, type Result, unknown, wrong } from "../../../common/finding.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import { repositoryNameOf } from "../ecr/repository.ts";
import { simulate } from "./rights.ts";
import type { Surroundings } from "./surroundings.ts";

/** The service that assumes tasks' roles. */
const giver = "ecs-tasks.amazonaws.com";

/** Actions on one resource that a role must allow. */
interface Need {
  readonly actions: readonly string[];
  readonly resource: string;
  readonly context?: Readonly<Record<string, readonly string[]>>;
  /** The consequence if they are missing. */
  readonly without: string;
}

/** Checks the role with which ECS pulls images and writes logs. */
export async function checkExecutionRole(
  surroundings: Surroundings,
  iam: AwsService<IAMClient>,
  signal: AbortSignal,
): Promise<Result> {
  const { config } = surroundings;
  const { partition, account } = await surroundings.caller(signal);
  const { ecrRepository, logGroup, region, registryCredentials } = config;
  const needs: Need[] = [
    {
      actions: ["logs:CreateLogStream", "logs:PutLogEvents"],
      resource: `arn:${partition}:logs:${region}:${account}:log-group:${logGroup}:log-stream:1`,
      without: "no task starts",
    },
  ];
  if (ecrRepository !== undefined) {
    const repository = `arn:${partition}:ecr:${region}:${account}:repository/${repositoryNameOf(ecrRepository)}`;
    needs.push(
      { actions: ["ecr:GetAuthorizationToken"], resource: "*", without: "no image is pulled" },
      {
        actions: ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        resource: repository,
        without: "no image is pulled from ecs.ecr_repository",
      },
    );
  }
  for (const credentials of registryCredentials) {
    needs.push({
      actions: ["secretsmanager:GetSecretValue"],
      resource: credentials.slice(credentials.indexOf("=") + 1),
      without: "no image is pulled that needs this secret of ecs.registry_credentials",
    });
  }
  return await checkRole(
    { setting: "ecs.execution_role_arn", arn: config.executionRoleArn, needs, iam },
    signal,
  );
}

/** Checks the role of containers. */
export async function checkTaskRole(
  surroundings: Surroundings,
  iam: AwsService<IAMClient>,
  arn: string,
  signal: AbortSignal,
): Promise<Result> {
  const { efsFilesystemId, efsIam, region } = surroundings.config;
  const { partition, account } = await surroundings.caller(signal);
  const ofEfs = `arn:${partition}:elasticfilesystem:${region}:${account}`;
  const needs: Need[] =
    efsFilesystemId === undefined || !efsIam
      ? []
      : [
          {
            actions: ["ClientMount", "ClientRootAccess", "ClientWrite"].map(
              (name) => `elasticfilesystem:${name}`,
            ),
            resource: `${ofEfs}:file-system/${efsFilesystemId}`,
            context: {
              "elasticfilesystem:AccessPointArn": [`${ofEfs}:access-point/fsap-1`],
              "elasticfilesystem:AccessedViaMountTarget": ["true"],
            },
            without: "no container with a volume starts",
          },
        ];
  return await checkRole({ setting: "ecs.task_role_arn", arn, needs, iam }, signal);
}

interface AskedRole {
  readonly setting: string;
  readonly arn: string;
  readonly needs: readonly Need[];
  readonly iam: AwsService<IAMClient>;
}

async function checkRole({ setting, arn, needs, iam }: AskedRole, signal: AbortSignal): Promise<Result> {
  const asked: Promise<Result>[] = [
    checkTrust(setting, arn, iam, signal),
    ...needs.map((need) => checkNeed(arn, need, iam, signal)),
  ];
  const results = await Promise.all(
    asked.map((result) => result.catch((error: unknown) => unknown(messageOf(error)))),
  );
  return gravestOf(results);
}

async function checkTrust(
  setting: string,
  arn: string,
  iam: AwsService<IAMClient>,
  abortSignal: AbortSignal,
): Promise<Result> {
  const RoleName = arn.slice(arn.lastIndexOf("/") + 1); // The name without the path.
  try {
    const { Role } = await iam.send(new GetRoleCommand({ RoleName }), { abortSignal });
    if (Role?.Arn !== arn) {
      return wrong(`there is no role ${arn} (${setting}), but ${Role?.Arn}: no task starts`);
    }
    const policy = Role.AssumeRolePolicyDocument;
    if (policy === undefined) {
      return unknown(`IAM does not tell whom ${arn} trusts`);
    }
    // Its conditions, such as those on the caller's account, are not evaluated.
    return decodeURIComponent(policy).includes(`"${giver}"`)
      ? ok()
      : wrong(`${arn} (${setting}) does not trust ${giver}: no task starts; change its trust policy`);
  } catch (error) {
    if (isAwsError(error, "NoSuchEntityException")) {
      return wrong(`there is no role ${arn} (${setting}): no task starts`);
    }
    throw error;
  }
}

async function checkNeed(
  arn: string,
  { actions, resource, context = {}, without }: Need,
  iam: AwsService<IAMClient>,
  signal: AbortSignal,
): Promise<Result> {
  const results = await simulate(iam, arn, { actions, resource, context }, signal);
  const refused = actions.filter(
    (action) => results.find(({ EvalActionName }) => EvalActionName === action)?.EvalDecision !== "allowed",
  );
  return refused.length === 0
    ? ok()
    : wrong(`${arn} may not ${refused.join(", ")} on ${resource}: ${without}`);
}
