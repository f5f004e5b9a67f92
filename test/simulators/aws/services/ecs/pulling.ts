/** How ECS gets a container's image: with the execution role's rights, or with credentials from a secret. */
import type { ContainerDefinition } from "@aws-sdk/client-ecs";

import type { Cloud } from "../../cloud.ts";
import {
  type Image,
  PullFailed,
  qualifiedReference,
  type ImageStore,
  type RegistryAccess,
} from "../../../common/machine/images.ts";
import { AwsFault, type Given } from "../../wire/service.ts";
import { StartFailed } from "./start-failures.ts";

/**
 * Pulls a container's image.
 *
 * @throws {StartFailed} with ECS' reason
 */
export async function pullImage(
  images: ImageStore,
  cloud: Cloud,
  container: Given<ContainerDefinition>,
  executionRoleArn: string | undefined,
): Promise<Image> {
  const given = container.image ?? "";
  const reference = qualifiedReference(given);
  const access = accessTo(cloud, container, reference, executionRoleArn);
  try {
    return await images.pull(reference, access);
  } catch (error) {
    if (!(error instanceof PullFailed)) {
      throw error;
    }
    if (error.reason === "broken") {
      throw pullFailed(
        `ref pull has been retried 5 time(s): failed to extract layer: ${error.message}`,
        error,
      );
    }
    const detail =
      error.reason === "missing"
        ? `failed to resolve ref ${reference}: ${reference}: not found`
        : error.message;
    throw pullFailed(`pull image manifest has been retried 5 time(s): ${detail}`, error);
  }
}

function accessTo(
  { registry, secrets }: Cloud,
  { repositoryCredentials }: Given<ContainerDefinition>,
  reference: string,
  executionRoleArn = "",
): RegistryAccess {
  const host = reference.slice(0, reference.indexOf("/"));
  const plainHttp = /^(127\.\d+\.\d+\.\d+|localhost)(:\d+)?$/.test(host);
  try {
    if (host === registry.host) {
      return { plainHttp, credentials: registry.credentialsFor(executionRoleArn) };
    }
    const secretArn = repositoryCredentials?.credentialsParameter;
    if (secretArn === undefined) {
      return { plainHttp };
    }
    const secret: unknown = JSON.parse(secrets.valueFor(executionRoleArn, secretArn));
    const { username = "", password = "" } = secret as { username?: string; password?: string };
    return { plainHttp, credentials: { username, password } };
  } catch (error) {
    if (error instanceof AwsFault) {
      throw new StartFailed(
        `ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: ${error.code}: ${error.message}`,
        "TaskFailedToStart",
        error,
      );
    }
    throw error;
  }
}

function pullFailed(reason: string, cause: unknown): StartFailed {
  return new StartFailed(`CannotPullContainerError: ${reason}`, "TaskFailedToStart", cause);
}
