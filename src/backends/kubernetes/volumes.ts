/**
 * A named volume is a claim (PersistentVolumeClaim) of the namespace: made when Docker makes the volume, bound at its first
 * use where the storage class waits for that. Kubernetes keeps a claim that is deleted until no pod uses it.
 *
 * Anonymous volumes are directories of the container that has them (their records have no `driver_reference`), or claims.
 */
import { isDeepStrictEqual } from "node:util";

import type { V1PersistentVolumeClaim } from "@kubernetes/client-node";

import { conflict, ignoring } from "../../common/errors.ts";
import type { VolumeRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { isRefusal } from "../cloud/contract/cloud-error.ts";
import type { StartStep } from "../cloud/contract/cloud-tasks.ts";
import { neverShort, partsReady } from "../driver/ready-made-roles.ts";
import { toldOfVolume } from "../cloud/ready-made/volume-resources.ts";
import { unsettled } from "../driver/unsettled-error.ts";
import type { VolumeRules, VolumeStore } from "../driver/volumes.ts";
import type { WorkloadSpec } from "../driver/workload-spec.ts";
import type { KubernetesClient } from "./api/client.ts";
import { isConflict, isMissing, KubernetesError } from "./api/errors.ts";
import { instanceLabel, instanceValue } from "./names.ts";
import * as claims from "./volumes/claim.ts";

/** Settings of {@link kubernetesVolumes}. */
export interface KubernetesVolumesOptions {
  readonly settings: claims.ClaimSettings;
  /** Anonymous volumes are claims, too. */
  readonly claimAnonymous: boolean;
}

/** Volumes, and what pods need to know of them. */
export interface KubernetesVolumes extends VolumeStore {
  /** Refuses a start whose volumes are lost. @throws conflict; KubernetesError */
  refuseLost(spec: WorkloadSpec, step: StartStep): Promise<void>;
}

/** The rules of volumes on Kubernetes: Docker's own. */
const rules: VolumeRules = {
  drivers: [
    { name: claims.sharedDriver, sharing: "shared", content: "here" },
    { name: claims.blockDriver, sharing: "exclusive", content: "here" },
  ],
  elsewhere: {
    "azure-files": "Azure Files are a storage class here: use --opt storage_class=NAME",
    efs: "EFS is a storage class here: use --opt storage_class=NAME",
    tmpfs: "pods share no memory: use --tmpfs, which is each container's own",
  },
  usedBy: "any",
  forceOnUsed: "refuse",
};

/** The volumes of this backend. Failures keep Kubernetes' words. */
export function kubernetesVolumes(
  client: KubernetesClient,
  { settings, claimAnonymous }: KubernetesVolumesOptions,
): KubernetesVolumes {
  const { core } = client;
  const { namespace, instance } = settings;

  const isDirectory = ({ anonymous, driver }: VolumeRecord): boolean =>
    anonymous && !claimAnonymous && driver === claims.sharedDriver;

  const find = async (name: string): Promise<V1PersistentVolumeClaim | undefined> => {
    const asked = client.call("get persistentvolumeclaims", (options) =>
      core.readNamespacedPersistentVolumeClaim({ name, namespace }, options),
    );
    return await asked.catch(ignoring(isMissing));
  };

  const make = async (record: VolumeRecord): Promise<string> => {
    const body = claims.claimOf(record, settings);
    const name = body.metadata?.name ?? "";
    try {
      await client.call("create persistentvolumeclaims", (options) =>
        core.createNamespacedPersistentVolumeClaim({ namespace, body }, options),
      );
    } catch (error) {
      if (!isConflict(error)) {
        throw error instanceof KubernetesError && isRefusal(error) ? error : unsettled(error);
      }
      const found = await find(name).catch((cause: unknown) => {
        throw unsettled(cause);
      });
      const made = found === undefined ? undefined : claims.volumeOf(found, settings);
      if (made === undefined || !isDeepStrictEqual({ ...made.options }, { ...record.options })) {
        throw conflict(`a volume named ${record.name} exists, with other options`);
      }
    }
    return claims.formatClaim({ namespace, claim: name });
  };

  return {
    rules,
    parts: partsReady,
    watchRoom: neverShort,

    async create(record) {
      const mountpoint = claims.mountpointOf(record.name);
      if (isDirectory(record)) {
        await toldOfVolume("create", record.name, () => claims.claimOf(record, settings)); // Options are refused as for others.
        return { reference: "", mountpoint, status: {} };
      }
      return {
        reference: await toldOfVolume("create", record.name, () => make(record)),
        mountpoint,
        status: {},
      };
    },

    async remove(record) {
      if (record.driverReference === "" && isDirectory(record)) {
        return;
      }
      // One that was never answered may have been made all the same.
      const name = claims.claimIn(namespace, record) ?? claims.claimName(record, instance);
      await toldOfVolume("remove", record.name, () =>
        client.call("delete persistentvolumeclaims", (options) =>
          core.deleteNamespacedPersistentVolumeClaim({ name, namespace }, options),
        ),
      ).catch(ignoring((error) => error instanceof Error && isMissing(error.cause)));
    },

    async found(): Promise<readonly VolumeRecord[]> {
      const ours = new Map<string, VolumeRecord>();
      const labelSelector = `${instanceLabel}=${instanceValue(instance)}`;
      const pages = client.pages("list persistentvolumeclaims", (page, options) =>
        core.listNamespacedPersistentVolumeClaim({ ...page, labelSelector }, options),
      );
      for await (const { items } of pages) {
        for (const claim of items.filter((each) => each.metadata?.deletionTimestamp === undefined)) {
          const record = claims.volumeOf(claim, settings);
          const isMade = record !== undefined && claims.claimName(record, instance) === claim.metadata?.name;
          if (isMade && !ours.has(record.name)) {
            ours.set(record.name, record);
          }
        }
      }
      return [...ours.values()];
    },

    async refuseLost({ mounts }, step) {
      const used = new Map(
        mounts.flatMap(({ volume }) => {
          const name = volume === undefined ? undefined : claims.claimIn(namespace, volume);
          return volume === undefined || name === undefined ? [] : [[name, volume] as const];
        }),
      );
      for (const [name, volume] of used) {
        const claim = await step(`Kubernetes has not told of the claim of volume ${volume.name}`, () =>
          find(name),
        );
        const fault = claim === undefined ? "is gone" : lossOf(claim);
        if (fault !== undefined) {
          throw conflict(
            `volume ${volume.name} is lost: its claim ${name} in the namespace ${namespace} ${fault}`,
          );
        }
      }
    },
  };
}

/** Why a claim cannot be mounted any more; undefined: it can. */
function lossOf({ metadata, status }: V1PersistentVolumeClaim): string | undefined {
  if (metadata?.deletionTimestamp !== undefined) {
    return "has been deleted by somebody else";
  }
  return status?.phase === "Lost" ? "has lost its persistent volume" : undefined;
}
