/**
 * A named volume is a share of the configured storage account, with a storage of the environment through which jobs
 * mount it.
 *
 * Anonymous volumes are directories of their container (their records have no `driver_reference`).
 */
import type { Clock } from "../../common/clock.ts";
import { conflict, invalid, messageOf } from "../../common/errors.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import { pauseAfter } from "../../common/pauses.ts";
import type { ContainerRecord, VolumeRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { isRefusal } from "../cloud/contract/cloud-error.ts";
import type { UnappliedSetting } from "../driver/settings.ts";
import type { VolumeRules, VolumeStore } from "../driver/volumes.ts";
import { neverShort, nothingFound, partsReady } from "../driver/ready-made-roles.ts";
import { toldOfVolume } from "../cloud/ready-made/volume-resources.ts";
import { unsettled } from "../driver/unsettled-error.ts";
import { isConflict, isStorageInUse } from "./arm/errors.ts";
import type { AzureFiles } from "./shares/azure-files.ts";
import type { JobVolumes } from "./jobs/job-parts.ts";
import { jobMounts, refuseMounts, unmountedVolumes } from "./shares/job-mounts.ts";
import { instanceOfShare, shareMetadata, volumeOfShare } from "./shares/metadata.ts";
import { shareName, volumeMountpoint } from "./shares/names.ts";
import { parseVolumeOptions } from "./shares/options.ts";
import { formatShare, shareIn, shareOf } from "./shares/reference.ts";

/** Settings and dependencies of {@link acaVolumes}. */
export interface AcaVolumesOptions {
  /** Undefined without a storage account; then there are no named volumes. */
  readonly files: AzureFiles | undefined;
  /** Deletes unused jobs: Azure keeps a storage while a job refers to it. */
  readonly dropIdleJobs: () => Promise<void>;
  readonly clock: Clock;
  /** Name of this instance (`sockerless/<hex>`), in the metadata of its resources. */
  readonly instance: string;
  readonly logger: Logger;
}

/** Volumes, with the details that jobs need. */
export interface AcaVolumes extends VolumeStore, JobVolumes {
  /** Deletes what forced removals have left in the environment, once no job refers to it. */
  clearLeft(): Promise<void>;
}

const inUseMessage = "volume is in use";

/** The rules of volumes on ACA. A job that does not run mounts nothing: its volumes may be removed. */
const rules: VolumeRules = {
  drivers: [{ name: "azure-files", sharing: "shared", content: "here" }],
  elsewhere: {
    block:
      "a job can be given no disk of its own: use --driver azure-files, whose volumes containers share and keep",
    efs: "EFS is Amazon's: use --driver azure-files",
    tmpfs: "containers share no memory: use --tmpfs, which is each container's own",
  },
  usedBy: "running",
  forceOnUsed: "remove",
  inUseMessage,
};

/** Unshared volumes from another container, since they are directories of each container. */
export const unsharedVolumes: UnappliedSetting & { isSet(record: ContainerRecord): boolean } = {
  name: "--volumes-from (anonymous volumes)",
  why: "the other container's anonymous volumes are not shared: each container has directories of its own for them, and a restart begins with new ones; name the volumes that are to be shared",
  isSet: ({ mounts, anonymousVolumes, takenSubpaths }) =>
    mounts.some(
      ({ type, name, destination }) =>
        type === "volume" && anonymousVolumes.includes(name) && Object.hasOwn(takenSubpaths, destination),
    ),
};

/** Time after which an ended container has left its job. */
const idleWithinMs = 30_000;
const pauses = { firstMs: 500, longestMs: 5_000 };

/** The volumes of this backend. Failures keep Azure's words. */
export function acaVolumes(options: AcaVolumesOptions): AcaVolumes {
  const { files } = options;
  return files === undefined ? anonymousVolumes() : sharedVolumes(files, options);
}

function sharedVolumes(
  files: AzureFiles,
  { instance, dropIdleJobs, clock, logger: parent }: AcaVolumesOptions,
): AcaVolumes {
  const logger = componentLogger(parent, "volumes");

  const make = async (record: VolumeRecord, share: string, nfs: boolean): Promise<void> => {
    await (nfs ? files.refuseHttpsOnly() : files.key()); // No share is created that could not be mounted.
    try {
      await files.createShare(share, shareMetadata(record, instance, logger), nfs);
    } catch (error) {
      throw isRefusal(error) ? error : unsettled(error);
    }
    try {
      await files.ensureStorage(share, nfs, false);
    } catch (error) {
      if (!isRefusal(error)) {
        throw unsettled(error);
      }
      await files.removeShare(share).catch((cause: unknown) => {
        logger.warn({ err: cause, share }, "a share is left behind");
        throw unsettled(error);
      });
      throw error;
    }
  };

  /** The environment first: jobs that begin meanwhile are refused, instead of waiting for a missing share. */
  const takeAway = async (share: string, force: boolean): Promise<void> => {
    const deadline = clock.nowMs() + idleWithinMs;
    for (let attempt = 1; ; attempt++) {
      try {
        await files.removeStorages(share);
        break;
      } catch (error) {
        const inUse = isStorageInUse(error);
        if (inUse && force) {
          logger.info({ share }, "a job has a share that is removed by force: its storage goes later");
          break; // Left to `clearLeft`.
        }
        // The job of a removed container exists for a moment longer, that of an ended one while it lingers.
        if (!(inUse || isConflict(error)) || clock.nowMs() > deadline) {
          throw inUse ? conflict(inUseMessage, error) : error;
        }
      }
      await clock.sleep(pauseAfter(attempt, pauses));
      await dropIdleJobs().catch((error: unknown) => {
        logger.warn({ err: error }, `cannot look for jobs that nobody needs: ${messageOf(error)}`);
      });
    }
    await files.removeShare(share);
  };

  return {
    rules,
    parts: partsReady,
    watchRoom: neverShort,
    partsOf: (spec, step) =>
      jobMounts(spec, step, files.account, (share, nfs, readOnly) =>
        files.ensureStorage(share, nfs, readOnly),
      ),
    unmounted: unmountedVolumes,
    refuseUnfit: (mounts) => refuseMounts(mounts, files.account),

    async create(record) {
      const { nfs } = await toldOfVolume("create", record.name, () => parseVolumeOptions(record.options));
      const mountpoint = volumeMountpoint(record.name);
      if (record.anonymous) {
        return { reference: "", mountpoint, status: {} };
      }
      if (shareOf(record) !== undefined) {
        return { reference: record.driverReference, mountpoint, status: {} }; // Its options stay as at its creation, as in Docker.
      }
      const reference = { account: files.account, share: shareName(record, instance) };
      await toldOfVolume("create", record.name, () => make(record, reference.share, nfs));
      logger.info({ volume: record.name, ...reference }, "made a volume");
      return { reference: formatShare(reference), mountpoint, status: {} };
    },

    async remove(record, force = false) {
      if (record.anonymous) {
        return;
      }
      // A creation without an answer may have succeeded.
      const share = shareIn(files.account, record) ?? shareName(record, instance);
      await toldOfVolume("remove", record.name, () => takeAway(share, force));
      logger.info({ volume: record.name, share }, "removed a volume and all that was in it");
    },

    async found(): Promise<readonly VolumeRecord[]> {
      const ours = new Map<string, VolumeRecord>();
      for (const { share, metadata } of await files.listShares()) {
        const owner = instanceOfShare(metadata);
        const record = volumeOfShare({ account: files.account, share }, metadata);
        if (record === undefined || owner !== instance || ours.has(record.name)) {
          const reason =
            owner !== instance
              ? `it is of instance ${owner ?? "?"}`
              : record === undefined
                ? "its name is not that of the volume in its metadata"
                : "the volume has another one";
          logger.info({ share, volume: record?.name, reason }, "a share of sockerless is not adopted");
        } else {
          ours.set(record.name, record);
        }
      }
      return [...ours.values()];
    },
    clearLeft: () => files.removeLeftStorages(),
  };
}

/** Without a storage account: containers have their own directories, and volumes cannot have names. */
function anonymousVolumes(): AcaVolumes {
  return {
    rules,
    parts: partsReady,
    found: nothingFound,
    watchRoom: neverShort,
    async partsOf({ mounts }) {
      refuseMounts(mounts, undefined);
      return { volumes: [], mounts: [] };
    },
    unmounted: unmountedVolumes,
    refuseUnfit: (mounts) => refuseMounts(mounts, undefined),
    async create({ anonymous, name, options }) {
      await toldOfVolume("create", name, () => parseVolumeOptions(options));
      if (!anonymous) {
        throw invalid(`create ${name}: there is nowhere to keep a volume: set aca.storage_account_name`);
      }
      return { reference: "", mountpoint: volumeMountpoint(name), status: {} };
    },
    async remove(record) {
      shareIn(undefined, record);
    },
    clearLeft: () => Promise.resolve(),
  };
}
