import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import { type Aws, startAws } from "../simulators/aws/aws.ts";
import { signatureOf } from "../simulators/aws/wire/presigned.ts";
import { systemClock } from "../../src/common/clock.ts";
import { isErrorKind } from "../../src/common/errors.ts";
import { createLogger } from "../../src/common/logger.ts";
import type { ProveRequest } from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import type { UnprovenAgent } from "../../src/backends/cloud/agents/agent-proof.ts";
import { type AwsClients, createAwsClients } from "../../src/backends/ecs/aws/clients.ts";
import { callerProof } from "../../src/backends/ecs/caller-proof.ts";

const pin = new Uint8Array(32).fill(7);
const taskId = "0123456789abcdef0123456789abcdef";
const place = {
  task: `arn:aws:ecs:us-east-1:123456789012:task/sockerless/${taskId}`,
  address: "",
  launchGeneration: 1n,
};

/** The parts of what an agent signs. */
interface Signed {
  readonly session: string;
  readonly role?: string;
  readonly pin?: Uint8Array;
  readonly nonce?: string;
  readonly action?: string;
  readonly headers?: readonly string[];
  readonly expiresS?: number;
  /** Further characters of the query. */
  readonly padding?: string;
}

describe("the proof of a task by its role", () => {
  let aws: Aws;
  let clients: AwsClients;
  beforeEach(async () => {
    aws = await startAws({ lightweight: true });
    clients = createAwsClients({
      ...{ region: aws.region, endpoint: aws.endpoint, spot: false, rates: {} },
      ...{ clock: systemClock, logger: createLogger({ level: "error", process: "backend" }) },
    });
  });
  afterEach(async () => {
    clients.close();
    await aws.stop();
  });

  /** Checks an agent that signs this, whatever it is asked for. */
  const check = (signed: Signed): Promise<void> => {
    const proof = callerProof({ aws: clients, region: aws.region, taskRoleArn: aws.account.taskRoleArn });
    const prove = async ({ callerIdentity: asked }: Pick<ProveRequest, "callerIdentity">) => ({
      proof: {
        case: "callerIdentityQuery" as const,
        value:
          queryOf(aws, asked?.host ?? "", signed.nonce ?? asked?.nonce ?? "", signed) +
          (signed.padding ?? ""),
      },
    });
    const client = { prove } as unknown as UnprovenAgent["client"];
    return proof.check({ containerId: "c", pin, client }, place, new AbortController().signal);
  };
  const refused = (error: unknown): boolean => isErrorKind(error, "forbidden");

  it("is the name of the role's session, which ECS gives it", async () => {
    await check({ session: taskId });
  });

  it("is not another task's, nor that of a session of another role", async () => {
    await assert.rejects(check({ session: "another" }), (error) => isErrorKind(error, "conflict"));
    const role = aws.iam.addRole("theirs", { trusted: ["ecs-tasks.amazonaws.com"], policies: [] });
    await assert.rejects(check({ session: taskId, role }), refused);
  });

  it("is good for the agent's key and the backend's nonce alone", async () => {
    await assert.rejects(check({ session: taskId, pin: new Uint8Array(32) }), refused);
    await assert.rejects(check({ session: taskId, nonce: "of an earlier question" }), refused);
    await assert.rejects(check({ session: taskId, headers: ["host"] }), refused);
  });

  it("is refused unread where it is long", { timeout: 10_000 }, async () => {
    await assert.rejects(check({ session: taskId, padding: "&a".repeat(2 ** 18) }), /too long/);
  });

  it("is no other call, and none that is over", async () => {
    await assert.rejects(check({ session: taskId, action: "GetSessionToken" }), refused);
    await assert.rejects(check({ session: taskId, expiresS: -60 }), refused);
  });
});

function queryOf(aws: Aws, host: string, nonce: string, signed: Signed): string {
  const keys = aws.iam.assumeRole(signed.role ?? aws.account.taskRoleArn, signed.session);
  assert.ok(keys !== undefined);
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const query = new URLSearchParams({
    Action: signed.action ?? "GetCallerIdentity",
    Version: "2011-06-15",
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": `${keys.accessKeyId}/${date.slice(0, 8)}/${aws.region}/sts/aws4_request`,
    "X-Amz-Date": date,
    "X-Amz-Expires": String(signed.expiresS ?? 60),
    "X-Amz-SignedHeaders": (signed.headers ?? ["host", "sockerless-agent"]).join(";"),
  });
  const url = new URL(`http://${host}/?${query}`);
  const shown = Buffer.from(signed.pin ?? pin).toString("hex");
  const headers = { host, "sockerless-agent": `${nonce}.${shown}` };
  const signature = signatureOf({ method: "GET", url, headers, body: Buffer.alloc(0) }, keys.secretAccessKey);
  query.set("X-Amz-Signature", signature.toString("hex"));
  return query.toString();
}
