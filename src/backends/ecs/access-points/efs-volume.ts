/** How a task definition names what a task mounts from EFS. */
import type { EFSVolumeConfiguration } from "@aws-sdk/client-ecs";

import type { AccessPointReference } from "./reference.ts";

/**
 * An access point as a task mounts it, over TLS.
 *
 * @param iam whether it is mounted with the rights of the task's role, and not as nobody
 */
export function efsVolume(
  { fileSystemId, accessPointId }: AccessPointReference,
  iam: boolean,
): EFSVolumeConfiguration {
  return {
    fileSystemId,
    transitEncryption: "ENABLED",
    authorizationConfig: { accessPointId, ...(iam ? { iam: "ENABLED" } : {}) },
    rootDirectory: "/",
  };
}
