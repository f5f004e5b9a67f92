/** The variables that a definition takes from Secrets Manager. */
import type { ContainerDefinition } from "@aws-sdk/client-ecs";

import type { Secrets } from "../../cloud.ts";
import { AwsFault, type Given } from "../../wire/service.ts";
import { StartFailed } from "./start-failures.ts";

/**
 * Reads a container's secrets with the execution role's rights.
 *
 * @throws {StartFailed} for one that cannot be read
 */
export function readSecrets(
  secrets: Secrets,
  { secrets: wanted = [] }: Given<ContainerDefinition>,
  executionRoleArn = "",
): Record<string, string> {
  return Object.fromEntries(
    wanted.map(({ name = "", valueFrom = "" }) => [name, readSecret(secrets, valueFrom, executionRoleArn)]),
  );
}

/** `arn:…:secret:name`, or `arn:…:secret:name:json-key:version-stage:version-id` */
function readSecret(secrets: Secrets, valueFrom: string, roleArn: string): string {
  const parts = valueFrom.split(":");
  const key = parts[7] ?? "";
  try {
    const value = secrets.valueFor(roleArn, parts.slice(0, 7).join(":"));
    const member: unknown = key === "" ? value : (JSON.parse(value) as Record<string, unknown>)[key];
    return typeof member === "string" ? member : JSON.stringify(member);
  } catch (error) {
    if (error instanceof AwsFault || error instanceof SyntaxError) {
      throw new StartFailed(
        `ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: ${error.message}`,
        "TaskFailedToStart",
        error,
      );
    }
    throw error;
  }
}
