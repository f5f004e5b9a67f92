/** The account's secrets. */
import { randomBytes } from "node:crypto";

import type { Secrets } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import { AwsFault } from "../../wire/service.ts";

/** A version of a secret's value. */
export interface SecretVersion {
  readonly versionId: string;
  readonly text: string;
  readonly createdAt: Date;
}

/** A secret; the last version is the current one, the one before it the previous. */
export interface Secret {
  readonly arn: string;
  readonly name: string;
  readonly description: string | undefined;
  readonly createdAt: Date;
  readonly versions: SecretVersion[];
  deletedAt: Date | undefined;
  tags: Readonly<Record<string, string>>;
}

/** All secrets. */
export class SecretState implements Secrets {
  readonly #context: Context;
  readonly #secrets = new Map<string, Secret>();

  constructor(context: Context) {
    this.#context = context;
  }

  all(): readonly Secret[] {
    return [...this.#secrets.values()];
  }

  find(nameOrArn: string): Secret | undefined {
    // An ARN may be given without the six characters that AWS adds to the name.
    return this.all().find(
      ({ name, arn }) => name === nameOrArn || arn === nameOrArn || arn.slice(0, -7) === nameOrArn,
    );
  }

  /** @throws AwsFault `ResourceNotFoundException` */
  get(nameOrArn: string): Secret {
    const found = this.find(nameOrArn);
    if (found === undefined) {
      const message = "Secrets Manager can't find the specified secret.";
      throw new AwsFault("ResourceNotFoundException", message);
    }
    return found;
  }

  /** @throws AwsFault `InvalidRequestException` for a secret that is to be deleted */
  getUsable(nameOrArn: string): Secret {
    const secret = this.get(nameOrArn);
    if (secret.deletedAt !== undefined) {
      const message = "You can't perform this operation on the secret because it was marked for deletion.";
      throw new AwsFault("InvalidRequestException", message);
    }
    return secret;
  }

  create(name: string, description: string | undefined, tags: Readonly<Record<string, string>>): Secret {
    const suffix = randomBytes(3).toString("hex");
    const arn = arnOf(this.#context, "secretsmanager", `secret:${name}-${suffix}`);
    const createdAt = this.#context.clock.now();
    const made: Secret = { arn, name, description, createdAt, versions: [], deletedAt: undefined, tags };
    this.#secrets.set(arn, made);
    return made;
  }

  delete({ arn }: Secret): void {
    this.#secrets.delete(arn);
  }

  /** The ARN in permissions; AWS puts six question marks for a secret that is named without its suffix. */
  arnFor(nameOrArn: string): string {
    const { arn } = this.find(nameOrArn) ?? {};
    return (
      arn ??
      (nameOrArn.startsWith("arn:")
        ? nameOrArn
        : arnOf(this.#context, "secretsmanager", `secret:${nameOrArn}-??????`))
    );
  }

  valueFor(roleArn: string, secretArn: string): string {
    const { iam } = this.#context;
    const session = iam.assumeRole(roleArn, "ecs-execution-session");
    const principal = session === undefined ? undefined : iam.principalOf(session.accessKeyId);
    const request = { action: "secretsmanager:GetSecretValue", resource: this.arnFor(secretArn) };
    const refusal = principal === undefined ? `no role ${roleArn}` : iam.refusal(principal, request);
    if (refusal !== undefined) {
      throw new AwsFault("AccessDeniedException", refusal);
    }
    const current = this.getUsable(secretArn).versions.at(-1);
    if (current === undefined) {
      const message = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT";
      throw new AwsFault("ResourceNotFoundException", message);
    }
    return current.text;
  }
}
