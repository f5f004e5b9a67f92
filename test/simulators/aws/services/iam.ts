/** IAM: what a user or a role may do. Users and roles are made by `aws.iam`. */

import type { Context } from "../context.ts";
import { evaluate, type Verdict } from "../iam/policy.ts";
import { AwsFault, operations, type ServiceHandler } from "../wire/service.ts";

const decisions = {
  allowed: "allowed",
  "not allowed": "implicitDeny",
  "explicitly denied": "explicitDeny",
} as const satisfies Record<Verdict, string>;

/** The simulated IAM. A simulation evaluates policies even while those of calls are not {@link Context.iam enforced}. */
export function iamService({ accountId, iam }: Context): ServiceHandler {
  const missing = (arn: string): AwsFault => new AwsFault("NoSuchEntity", `${arn} cannot be found.`, 404);
  return {
    name: "iam",
    codes: {
      invalid: "ValidationError",
      throttled: "Throttling",
      denied: "AccessDenied",
      deniedStatus: 403,
      unknownKey: "InvalidClientTokenId",
      unknownKeyStatus: 403,
    },
    operations: operations<typeof import("@aws-sdk/client-iam")>({
      GetRole: {
        access: ({ RoleName }) => [
          { action: "iam:GetRole", resource: `arn:aws:iam::${accountId}:role/${RoleName}` },
        ],
        run({ RoleName = "" }) {
          const arn = `arn:aws:iam::${accountId}:role/${RoleName}`;
          const role = iam.role(arn);
          if (role === undefined) {
            throw missing(arn);
          }
          const Principal = { Service: role.trusted };
          const Statement = [{ Effect: "Allow", Principal, Action: "sts:AssumeRole" }];
          return {
            Role: {
              ...{ Path: "/", RoleName, RoleId: "AROA0123456789ABCDEF", Arn: arn, CreateDate: new Date(0) },
              AssumeRolePolicyDocument: encodeURIComponent(
                JSON.stringify({ Version: "2012-10-17", Statement }),
              ),
            },
          };
        },
      },
      SimulatePrincipalPolicy: {
        access: ({ PolicySourceArn = "" }) => [
          { action: "iam:SimulatePrincipalPolicy", resource: PolicySourceArn },
        ],
        run({ PolicySourceArn = "", ActionNames = [], ResourceArns = ["*"], ContextEntries = [] }) {
          const policies = iam.policiesOf(PolicySourceArn);
          if (policies === undefined) {
            throw missing(PolicySourceArn);
          }
          const given = ContextEntries.map(
            ({ ContextKeyName = "", ContextKeyValues = [] }) => [ContextKeyName, ContextKeyValues] as const,
          );
          const context = Object.fromEntries(given);
          return {
            EvaluationResults: ActionNames.flatMap((action) =>
              ResourceArns.map((resource) => ({
                EvalActionName: action,
                EvalResourceName: resource,
                EvalDecision: decisions[evaluate(policies, { action, resource, context })],
              })),
            ),
            IsTruncated: false,
          };
        },
      },
    }),
  };
}
