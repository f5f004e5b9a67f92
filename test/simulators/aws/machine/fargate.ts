/** What Fargate gives every container besides its definition: files below /etc, and environment variables. */
import { metadataAddress } from "./vpc.ts";

/** The files that Fargate writes for a container, by name: where they go is `/etc/` and the name. */
export function addressFiles(address: string, region: string, resolver: string): Record<string, string> {
  const domain = region === "us-east-1" ? "ec2.internal" : `${region}.compute.internal`;
  const name = hostnameOf(address, region);
  return {
    hostname: `${name}\n`,
    hosts: `127.0.0.1 localhost\n${address} ${name}\n`,
    "resolv.conf": `nameserver ${resolver}\nsearch ${domain}\n`,
  };
}

/** `ip-10-0-0-5.ec2.internal` */
export function hostnameOf(address: string, region: string): string {
  const domain = region === "us-east-1" ? "ec2.internal" : `${region}.compute.internal`;
  return `ip-${address.replaceAll(".", "-")}.${domain}`;
}

/** What Fargate tells a container by its environment. */
export function fargateEnvironment(
  region: string,
  metadataToken: string,
  credentialsId?: string,
): Record<string, string> {
  return {
    AWS_DEFAULT_REGION: region,
    AWS_REGION: region,
    AWS_EXECUTION_ENV: "AWS_ECS_FARGATE",
    ECS_CONTAINER_METADATA_URI: `http://${metadataAddress}/v3/${metadataToken}`,
    ECS_CONTAINER_METADATA_URI_V4: `http://${metadataAddress}/v4/${metadataToken}`,
    ...(credentialsId !== undefined && {
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: `/v2/credentials/${credentialsId}`,
    }),
  };
}
