/** The volumes of a container in its job. Pure, except for the storages that are created. */
import type { Volume, VolumeMount } from "@azure/arm-appcontainers";

import { invalid } from "../../../common/errors.ts";
import type { StartStep } from "../../cloud/contract/cloud-tasks.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";
import type { JobVolumeParts } from "../jobs/job-parts.ts";
import { mountOptionsOf, parseVolumeOptions } from "./options.ts";
import { shareIn, shareOf } from "./reference.ts";

/** Creates the storage through which a share is mounted, and returns its name. */
export type EnsureStorage = (share: string, nfs: boolean, readOnly: boolean) => Promise<string>;

/**
 * The container's shared volumes, once per read-only and writable use.
 *
 * @throws invalid: one is in another account than the configured one
 */
export async function jobMounts(
  spec: WorkloadSpec,
  step: StartStep,
  account: string | undefined,
  ensureStorage: EnsureStorage,
): Promise<JobVolumeParts> {
  const volumes = new Map<string, Volume>();
  const mounts: VolumeMount[] = [];
  for (const { volume, destination, readOnly, subpath = "" } of spec.mounts) {
    const share = volume === undefined ? undefined : shareIn(account, volume);
    if (volume === undefined || share === undefined) {
      continue;
    }
    const options = parseVolumeOptions(volume.options);
    const name = await step(`Azure has not made the storage by which volume ${volume.name} is mounted`, () =>
      ensureStorage(share, options.nfs, readOnly),
    );
    const mountOptions = mountOptionsOf(options, spec.record.config?.user ?? "");
    volumes.set(name, {
      name,
      storageType: options.nfs ? "NfsAzureFile" : "AzureFile",
      storageName: name,
      ...(mountOptions === undefined ? {} : { mountOptions }),
    });
    mounts.push({
      volumeName: name,
      mountPath: destination,
      ...(subpath === "" ? {} : { subPath: subpath }),
    });
  }
  return { volumes: [...volumes.values()], mounts };
}

/**
 * Paths of volumes that are directories of the container: the agent creates them with the image's content, anew for
 * each run.
 */
export function unmountedVolumes({ mounts }: WorkloadSpec): readonly string[] {
  return mounts
    .filter(({ volume }) => volume !== undefined && shareOf(volume) === undefined)
    .map(({ destination }) => destination);
}

/** Refuses a new container with mounts that no job can have. @throws invalid */
export function refuseMounts(mounts: readonly ResolvedMount[], account: string | undefined): void {
  for (const { volume } of mounts) {
    if (volume !== undefined) {
      shareIn(account, volume);
    }
  }
  const refused = mounts.find(
    ({ type, volume, destination }) =>
      destination.includes(":") &&
      (type === "tmpfs" || type === "image" || (volume !== undefined && shareOf(volume) !== undefined)),
  );
  if (refused !== undefined) {
    throw invalid(
      `invalid mount config for type "${refused.type}": invalid mount path: '${refused.destination}': Azure Container Apps takes no mount path with a colon`,
    );
  }
}
