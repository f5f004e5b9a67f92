/** The host name, files below /etc and environment variables that Fargate gives every container by itself. */
import type { TaskSurroundings } from "../../../common/machine/task.ts";

/** The machine as Fargate shows it to a task with that address. */
export function fargateHost(address: string, region: string, resolver: string): TaskSurroundings {
  const domain = region === "us-east-1" ? "ec2.internal" : `${region}.compute.internal`;
  const hostname = `ip-${address.replaceAll(/[.:]+/g, "-")}.${domain}`;
  return {
    hostname,
    etcFiles: {
      hostname: `${hostname}\n`,
      hosts: `127.0.0.1 localhost\n${address} ${hostname}\n`,
      "resolv.conf": `nameserver ${resolver}\nsearch ${domain}\n`,
    },
    outOfMemory: "OutOfMemoryError: Container killed due to memory usage",
    describeFailure: (why) =>
      `CannotStartContainerError: ResourceInitializationError: failed to create new container runtime task: failed to create shim task: OCI runtime create failed: ${why}: unknown`,
  };
}

/** The environment variables that Fargate gives a container. */
export function fargateEnvironment(region: string, credentialsId?: string): Record<string, string> {
  return {
    AWS_DEFAULT_REGION: region,
    AWS_REGION: region,
    AWS_EXECUTION_ENV: "AWS_ECS_FARGATE",
    ...(credentialsId !== undefined && {
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: `/v2/credentials/${credentialsId}`,
    }),
  };
}
