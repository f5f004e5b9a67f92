/** EFS mounts in task definitions. */
import type { EFSVolumeConfiguration } from "@aws-sdk/client-ecs";

import type { AccessPointReference } from "./reference.ts";

/**
 * The configuration for mounting an access point over TLS.
 *
 * @param iam whether to mount with the permissions of the task's role instead of anonymously
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
