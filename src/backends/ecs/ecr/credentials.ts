/** Credentials for ECR: a token that is good for twelve hours, for the registries of one region. */
import { GetAuthorizationTokenCommand } from "@aws-sdk/client-ecr";

import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../../common/clock.ts";
import { systemError } from "../../../common/errors.ts";
import { type RegistryAuth, RegistryAuthSchema } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { AwsClients } from "../aws/clients.ts";

/** Settings of {@link EcrCredentials}, and what it calls. */
export interface EcrCredentialsOptions {
  readonly aws: Pick<AwsClients, "ecr" | "ecrIn">;
  readonly clock: Clock;
}

/** A token that ends sooner is not used for an upload that may take as long. */
const spareMs = 30 * 60_000;
/** Hosts of ECR, with the ends of AWS's own names: a host elsewhere that begins alike must not be shown a token. */
const host =
  /^(?<account>\d{12})\.dkr[.-]ecr(-fips)?\.(?<region>[a-z0-9-]+)\.(amazonaws\.(com(\.cn)?|eu)|on\.(aws|amazonwebservices\.com\.cn)|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$/;

/** Whether a registry is ECR, by its host. */
export function isEcr(domain: string): boolean {
  return host.test(domain);
}

/** Whether an image's name begins with a host of ECR's that has no IPv6 address; `….dkr-ecr.<region>.on.aws` has both. */
export function isIpv4Ecr(name: string): boolean {
  const domain = name.split("/", 1)[0] ?? "";
  return isEcr(domain) && !/\.on\.(aws|amazonwebservices\.com\.cn)$/.test(domain);
}

interface Token {
  readonly auth: RegistryAuth;
  readonly expiresMs: number;
}

/** Asks once for all who need a token of a registry at a time, and again when it ends. */
export class EcrCredentials {
  readonly #options: EcrCredentialsOptions;
  readonly #tokens = new Map<string, Promise<Token>>();

  constructor(options: EcrCredentialsOptions) {
    this.#options = options;
  }

  /**
   * The token of a registry, which its own region gives.
   *
   * @param domain the registry's host; one that is not {@link isEcr} is asked for where the configuration says
   * @throws AwsError
   */
  async get(domain: string): Promise<RegistryAuth> {
    const { clock } = this.#options;
    const known = this.#tokens.get(domain);
    if (known !== undefined) {
      const { auth, expiresMs } = await known;
      if (clock.nowMs() < expiresMs - spareMs) {
        return auth;
      }
      if (this.#tokens.get(domain) === known) {
        this.#tokens.delete(domain);
      }
    }
    const asked = this.#tokens.get(domain) ?? this.#ask(domain);
    return (await asked).auth;
  }

  /** The registry took the token no more. */
  forget(domain: string): void {
    this.#tokens.delete(domain);
  }

  #ask(domain: string): Promise<Token> {
    const { aws } = this.#options;
    const { account, region } = host.exec(domain)?.groups ?? {};
    const ecr = region === undefined ? aws.ecr : aws.ecrIn(region);
    const asked = ecr
      .send(new GetAuthorizationTokenCommand(account === undefined ? {} : { registryIds: [account] }))
      .then((answer) => {
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
    this.#tokens.set(domain, asked);
    asked.catch(() => this.#tokens.delete(domain));
    return asked;
  }
}
