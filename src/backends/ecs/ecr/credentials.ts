/** Credentials for ECR: a token that is good for twelve hours and for every repository of the account. */
import { type ECRClient, GetAuthorizationTokenCommand } from "@aws-sdk/client-ecr";

import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../../common/clock.ts";
import { systemError } from "../../../common/errors.ts";
import { type RegistryAuth, RegistryAuthSchema } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { AwsService } from "../aws/clients.ts";

/** What credentials are asked with. */
export interface EcrCredentialsOptions {
  readonly ecr: AwsService<ECRClient>;
  readonly clock: Clock;
}

/** A token that ends sooner is not used for an upload that may take as long. */
const spareMs = 30 * 60_000;
/** With the ends of AWS's own names: whoever else calls a host so must not be shown a token. */
const host =
  /^\d{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.(com(\.cn)?|eu)|on\.(aws|amazonwebservices\.com\.cn)|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$/;

/** Whether a registry is ECR, by its host. */
export function isEcr(domain: string): boolean {
  return host.test(domain);
}

/** Asks once for all who need a token at a time, and again when it ends. */
export class EcrCredentials {
  readonly #options: EcrCredentialsOptions;
  #token: Promise<{ readonly auth: RegistryAuth; readonly expiresMs: number }> | undefined;

  constructor(options: EcrCredentialsOptions) {
    this.#options = options;
  }

  /** @throws AwsError */
  async get(): Promise<RegistryAuth> {
    const { clock } = this.#options;
    const known = this.#token;
    if (known !== undefined) {
      const { auth, expiresMs } = await known;
      if (clock.nowMs() < expiresMs - spareMs) {
        return auth;
      }
      if (this.#token === known) {
        this.#token = undefined;
      }
    }
    this.#token ??= this.#ask();
    return (await this.#token).auth;
  }

  /** The registry took the token no more. */
  forget(): void {
    this.#token = undefined;
  }

  #ask(): Promise<{ readonly auth: RegistryAuth; readonly expiresMs: number }> {
    const asked = this.#options.ecr.send(new GetAuthorizationTokenCommand({})).then((answer) => {
      const [data] = answer.authorizationData ?? [];
      const [username, password] = Buffer.from(data?.authorizationToken ?? "", "base64")
        .toString("utf8")
        .split(":");
      if (username === undefined || password === undefined) {
        throw systemError("ecr: GetAuthorizationToken: the answer has no token");
      }
      const auth = create(RegistryAuthSchema, { username, password });
      return { auth, expiresMs: data?.expiresAt?.getTime() ?? 0 };
    });
    asked.catch(() => {
      this.#token = undefined;
    });
    return asked;
  }
}
