/** Credentials for ECR: a token valid for twelve hours, for all registries of one region. */
import { GetAuthorizationTokenCommand } from "@aws-sdk/client-ecr";

import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../../common/clock.ts";
import { systemError } from "../../../common/errors.ts";
import { RegistryAuthSchema } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import { type RegistryToken, RegistryTokens } from "../../cloud/images/registry-tokens.ts";
import type { AwsClients } from "../aws/clients.ts";

/** Hosts of ECR, including AWS's suffixes: a token must not be sent to another host with a similar name. */
const host =
  /^(?<account>\d{12})\.dkr[.-]ecr(-fips)?\.(?<region>[a-z0-9-]+)\.(amazonaws\.(com(\.cn)?|eu)|on\.(aws|amazonwebservices\.com\.cn)|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$/;

/** Whether a host is an ECR registry. */
export function isEcr(domain: string): boolean {
  return host.test(domain);
}

/** Whether an image's name begins with an ECR host that has no IPv6 address; `….dkr-ecr.<region>.on.aws` has both. */
export function isIpv4Ecr(name: string): boolean {
  const domain = name.split("/", 1)[0] ?? "";
  return isEcr(domain) && !/\.on\.(aws|amazonwebservices\.com\.cn)$/.test(domain);
}

/**
 * Tokens for ECR registries, each issued by the registry's own region. For a host that is not {@link isEcr} the configured
 * region is asked. Requests throw AwsError.
 */
export function ecrCredentials(aws: Pick<AwsClients, "ecr" | "ecrIn">, clock: Clock): RegistryTokens {
  return new RegistryTokens((domain) => requestToken(aws, domain), clock);
}

async function requestToken(aws: Pick<AwsClients, "ecr" | "ecrIn">, domain: string): Promise<RegistryToken> {
  const { account, region } = host.exec(domain)?.groups ?? {};
  const ecr = region === undefined ? aws.ecr : aws.ecrIn(region);
  const answer = await ecr.send(
    new GetAuthorizationTokenCommand(account === undefined ? {} : { registryIds: [account] }),
  );
  const [data] = answer.authorizationData ?? [];
  const [username, password] = Buffer.from(data?.authorizationToken ?? "", "base64")
    .toString("utf8")
    .split(":");
  if (username === undefined || password === undefined) {
    throw systemError("ecr: GetAuthorizationToken: the answer has no token");
  }
  const auth = create(RegistryAuthSchema, { username, password });
  return { auth, expiresMs: data?.expiresAt?.getTime() ?? 0 };
}
