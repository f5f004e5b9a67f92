/** The permissions of the backend's policy, one check per action. */
import {
  type EvaluationResult,
  GetRoleCommand,
  type IAMClient,
  SimulatePrincipalPolicyCommand,
} from "@aws-sdk/client-iam";

import { messageOf } from "../../../common/errors.ts";
import { type DoctorCheck, gravestOf, ok, type Result, unknown, wrong } from "../../../common/finding.ts";
import type { AwsService } from "../aws/clients.ts";
import { AwsError } from "../aws/errors.ts";
import { tried } from "./harmless-calls.ts";
import { neededActions, type PolicyRequest, requestsOf } from "./policy.ts";
import type { Surroundings } from "./surroundings.ts";

/**
 * The checks. They use IAM's simulation, which includes policies, permission boundaries and the organization's
 * policies; if that is not allowed, calls without effects, while the permissions for other calls remain unknown.
 */
export function rightChecks(surroundings: Surroundings, iam: AwsService<IAMClient>): readonly DoctorCheck[] {
  let principal: Promise<string> | undefined;
  const simulations = new Map<string, Promise<readonly EvaluationResult[]>>();
  const simulated = async (action: string, request: PolicyRequest, signal: AbortSignal): Promise<Result> => {
    principal ??= principalOf(surroundings, iam, signal);
    const source = await principal;
    const key = `${request.sid} ${request.resource}`;
    const known = simulations.get(key) ?? simulate(iam, source, request, signal);
    simulations.set(key, known);
    return decision(
      source,
      request,
      (await known).find(({ EvalActionName }) => EvalActionName === action),
    );
  };
  return neededActions(surroundings.config).map((action) => ({
    check: action,
    async look(signal) {
      const requests = await requestsOf(action, surroundings, signal);
      try {
        return gravestOf(await Promise.all(requests.map((request) => simulated(action, request, signal))));
      } catch (error) {
        return (
          (await tried(action, surroundings, signal)) ??
          unknown(`no call tells without doing it, and IAM's simulation cannot be asked: ${messageOf(error)}`)
        );
      }
    },
  }));
}

/** Simulates what a user or role may do. @param source its ARN @throws AwsError */
export async function simulate(
  iam: AwsService<IAMClient>,
  source: string,
  { actions, resource, context }: Omit<PolicyRequest, "sid">,
  abortSignal: AbortSignal,
): Promise<readonly EvaluationResult[]> {
  const { EvaluationResults = [] } = await iam.send(
    new SimulatePrincipalPolicyCommand({
      PolicySourceArn: source,
      ActionNames: [...actions],
      ResourceArns: [resource],
      ContextEntries: Object.entries(context).map(([ContextKeyName, values]) => ({
        ContextKeyName,
        ContextKeyValues: [...values],
        ContextKeyType: values.length === 1 ? "string" : "stringList",
      })),
    }),
    { abortSignal },
  );
  return EvaluationResults;
}

function decision(source: string, { sid, resource }: PolicyRequest, result?: EvaluationResult): Result {
  if (result?.EvalDecision === "allowed") {
    return ok();
  }
  const missing = result?.MissingContextValues ?? [];
  if (result === undefined || (result.EvalDecision === "implicitDeny" && missing.length > 0)) {
    return unknown(`IAM's simulation does not tell for ${resource}: it would need ${missing.join(", ")}`);
  }
  return result.EvalDecision === "explicitDeny"
    ? wrong(`a policy denies it to ${source} on ${resource}`)
    : wrong(
        `${source} may not do it on ${resource}: the statement ${sid} of deploy/iam/backend-policy.json allows it`,
      );
}

/**
 * The user or role with the caller's policies.
 *
 * @throws AwsError; Error: its permissions are not IAM policies
 */
async function principalOf(
  { caller }: Surroundings,
  iam: AwsService<IAMClient>,
  abortSignal: AbortSignal,
): Promise<string> {
  const { arn, partition, account } = await caller(abortSignal);
  const [, RoleName] = /:assumed-role\/([^/]+)\//.exec(arn) ?? [];
  if (RoleName !== undefined) {
    try {
      // A session's ARN lacks the path of its role.
      const { Role } = await iam.send(new GetRoleCommand({ RoleName }), { abortSignal });
      return Role?.Arn ?? "";
    } catch (error) {
      if (error instanceof AwsError && error.isDenied) {
        return `arn:${partition}:iam::${account}:role/${RoleName}`;
      }
      throw error;
    }
  }
  if (!arn.includes(":user/")) {
    throw new Error(`${arn} is neither a user nor a role`);
  }
  return arn;
}
