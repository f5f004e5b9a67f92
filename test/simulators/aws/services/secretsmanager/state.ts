/** The account's secrets in Secrets Manager, which tasks read; an administrator makes them. */
import { randomBytes } from "node:crypto";

import type { Secrets } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import { AwsFault } from "../../wire/service.ts";

/** A text secret. */
interface Secret {
  readonly arn: string;
  readonly name: string;
  readonly text: string;
}

/** All secrets. */
export class SecretState implements Secrets {
  readonly #context: Context;
  readonly #secrets: Secret[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  /** Makes a secret; answers its ARN. */
  create(name: string, text: string): string {
    const suffix = randomBytes(3).toString("hex");
    const arn = arnOf(this.#context, "secretsmanager", `secret:${name}-${suffix}`);
    this.#secrets.push({ arn, name, text });
    return arn;
  }

  /** Finds a secret by name or ARN, which may lack the six characters that AWS adds to the name. */
  #find(nameOrArn: string): Secret | undefined {
    return this.#secrets.find(
      ({ name, arn }) => name === nameOrArn || arn === nameOrArn || arn.slice(0, -7) === nameOrArn,
    );
  }

  valueFor(roleArn: string, secretArn: string): string {
    const { iam } = this.#context;
    const session = iam.assumeRole(roleArn, "ecs-execution-session");
    const principal = session === undefined ? undefined : iam.principalOf(session.accessKeyId);
    const secret = this.#find(secretArn);
    // In permissions AWS puts six question marks for the suffix that a name lacks.
    const unknown = arnOf(this.#context, "secretsmanager", `secret:${secretArn}-??????`);
    const resource = secret?.arn ?? (secretArn.startsWith("arn:") ? secretArn : unknown);
    const request = { action: "secretsmanager:GetSecretValue", resource };
    const refusal = principal === undefined ? `no role ${roleArn}` : iam.refusal(principal, request);
    if (refusal !== undefined) {
      throw new AwsFault("AccessDeniedException", refusal);
    }
    if (secret === undefined) {
      throw new AwsFault("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    }
    return secret.text;
  }
}
