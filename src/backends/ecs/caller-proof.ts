/**
 * The proof of an agent's task on ECS: a `GetCallerIdentity` that the agent has signed with the credentials of its task's
 * role, for its key and a nonce. ECS names the role's session after the task.
 */
import { randomBytes } from "node:crypto";

import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";

import { conflict, forbidden, messageOf } from "../../common/errors.ts";
import type { AgentProof } from "../cloud/agents/agent-proof.ts";
import type { AwsClients } from "./aws/clients.ts";
import { AwsError, isAwsError } from "./aws/errors.ts";

/** The header that binds a signed call to the agent's key and the nonce. */
const agentHeader = "sockerless-agent";

/** STS's refusals of the signed call. Any other 403 comes from a gateway and may be transient. */
const refusals = [
  "AccessDenied",
  "ExpiredToken",
  "IncompleteSignature",
  "InvalidClientTokenId",
  "MissingAuthenticationToken",
  "SignatureDoesNotMatch",
] as const;

/** Characters of a signed call, which has 1,500 to 3,000 with a session's token: parsing takes time by the square. */
const longestQuery = 8_192;

/** Settings of {@link callerProof}. */
export interface CallerProofOptions {
  readonly aws: Pick<AwsClients, "stsSignedBy">;
  readonly region: string;
  /** ARN of the role of every task. */
  readonly taskRoleArn: string;
}

/** Verifies a proof through AWS: the role's session must be the task's. */
export function callerProof({ aws, region, taskRoleArn }: CallerProofOptions): AgentProof {
  return {
    async check({ pin, client }, { task }, signal) {
      const nonce = randomBytes(16).toString("hex");
      let agentFailure: unknown;
      const sts = aws.stsSignedBy(async (host) => {
        try {
          const { proof } = await client.prove({ callerIdentity: { region, host, nonce } }, { signal });
          const signed = proof.case === "callerIdentityQuery" ? proof.value : "";
          if (signed.length > longestQuery) {
            throw forbidden("its signed call is too long");
          }
          const query = new URLSearchParams(signed);
          refuseOtherCalls(query);
          const headers = { host, [agentHeader]: `${nonce}.${Buffer.from(pin).toString("hex")}` };
          return { query: Object.fromEntries(query), headers };
        } catch (error) {
          agentFailure = error;
          throw error;
        }
      });
      let arn = "";
      try {
        const answer = await sts.send(new GetCallerIdentityCommand({}), { abortSignal: signal });
        arn = answer.Arn ?? "";
      } catch (caught) {
        const error = new AwsError({ service: "sts", operation: "GetCallerIdentity" }, caught);
        throw agentFailure ?? (isAwsError(error, ...refusals) ? forbidden(messageOf(error), error) : error);
      } finally {
        sts.destroy();
      }
      const sessions = sessionsOf(taskRoleArn);
      if (arn !== `${sessions}${task.split("/").at(-1)}`) {
        const isOurs = arn.startsWith(sessions);
        throw (isOurs ? conflict : forbidden)(`AWS takes it for ${arn}, not for the task ${task}`);
      }
    },
  };
}

/** Refuses a signed call other than the requested one, which is for this backend and this nonce. */
function refuseOtherCalls(query: URLSearchParams): void {
  const signed = (query.get("X-Amz-SignedHeaders") ?? "").split(";");
  const isAlone = new Set(query.keys()).size === [...query.keys()].length;
  if (!isAlone || query.get("Action") !== "GetCallerIdentity" || !signed.includes(agentHeader)) {
    throw forbidden("it has signed something else than was asked for");
  }
}

/** The prefix of the ARNs of a role's sessions: ECS creates one per task, named by the task's ID. */
function sessionsOf(roleArn: string): string {
  const [, partition, , , account] = roleArn.split(":");
  const role = roleArn.split("/").at(-1);
  return `arn:${partition}:sts::${account}:assumed-role/${role}/`;
}
