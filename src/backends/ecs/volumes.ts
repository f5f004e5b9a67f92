/**
 * A named volume is an access point on the configured EFS file system: tasks that mount it share one directory.
 *
 * Anonymous volumes, and all volumes without a configured file system, are directories of the task that mounts them
 * (their records have no `driver_reference`).
 */
import type { EFSClient } from "@aws-sdk/client-efs";

import type { Clock } from "../../common/clock.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import { Phase, type VolumeRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { VolumeRules, VolumeStore } from "../driver/volumes.ts";
import { neverShort, nothingFound, partsReady } from "../driver/ready-made-roles.ts";
import { failureOf } from "../driver/unsettled-error.ts";
import { volumeMountpoint } from "./access-points/mountpoint.ts";
import { AccessPoints } from "./access-points/access-points.ts";
import { parseVolumeOptions } from "./access-points/options.ts";
import { accessPointOf, formatAccessPoint } from "./access-points/reference.ts";
import { AccessPointUsage } from "./access-points/usage.ts";
import { volumeDirectory } from "./access-points/parts.ts";
import { idsOfVolume, partIdsOf, volumesOfAccessPoints } from "./access-points/volume-tags.ts";
import type { AwsService } from "./aws/clients.ts";

/** Settings and dependencies of {@link ecsVolumes}. */
export interface EcsVolumesOptions {
  readonly efs: AwsService<EFSClient>;
  /** If undefined, volumes are recorded but nothing is shared. */
  readonly fileSystemId: string | undefined;
  /** Maximum access points of the file system. */
  readonly accessPointLimit: number;
  /** Name of this instance (`sockerless/<hex>`), in the tags of its resources. */
  readonly instance: string;
  /** Time limit of a container's start for the access points of volumes' subpaths. */
  readonly partsLimitMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The rules of volumes on ECS. A stopped task mounts nothing: its volumes may be removed. */
const rules: VolumeRules = {
  drivers: [
    { name: "local", sharing: "shared", content: "here-without-options" },
    { name: "efs", sharing: "shared", content: "here-without-options" },
  ],
  elsewhere: {
    block:
      "an EBS volume that ECS attaches to a task is new each time, so it keeps nothing from one start to the next: " +
      "use --driver efs, whose volumes containers share and keep",
    tmpfs: "tasks share no memory: use --tmpfs, which is each container's own",
  },
  usedBy: "running",
  forceOnUsed: "remove",
};

/** The volumes of this backend. Errors keep AWS's words and are of kind `system`, except for quotas (`unavailable`). */
export function ecsVolumes(options: EcsVolumesOptions): VolumeStore {
  const logger = componentLogger(options.logger, "volumes");
  const { fileSystemId, efs, instance, clock } = options;
  if (fileSystemId === undefined) {
    return logicalVolumes(logger);
  }
  const usage = new AccessPointUsage(options.accessPointLimit, logger);
  const accessPoints = new AccessPoints({ efs, fileSystemId, instance, clock, logger });

  /** The whole volume last: it is needed to find those subpaths whose creation was interrupted. */
  const removeAll = async (record: VolumeRecord, wholeId: string): Promise<void> => {
    const parts = record.parts.every(({ driverReference }) => driverReference !== "")
      ? record.parts.map((part) => accessPointOf(part)?.accessPointId ?? "")
      : partIdsOf(await accessPoints.list(), wholeId);
    for (const id of [...parts, wholeId]) {
      await accessPoints.remove(id);
      usage.removed();
    }
  };

  /** Removes what a volume's creation with a lost answer may have created. */
  const removeUnanswered = async ({ name }: VolumeRecord): Promise<void> => {
    for (const id of idsOfVolume(await accessPoints.list(), instance, name)) {
      await accessPoints.remove(id);
    }
  };

  const createPart = async (record: VolumeRecord, subpath: string): Promise<string> => {
    const part = volumeDirectory(record, subpath);
    const accessPointId = await withVolumeInErrors("mount a directory of", record.name, () =>
      accessPoints.createPart(part, parseVolumeOptions(record.options)),
    );
    usage.added();
    logger.info(
      { volume: record.name, directory: subpath, accessPoint: accessPointId, fileSystem: fileSystemId },
      "made a directory of a volume one that can be mounted",
    );
    return formatAccessPoint({ fileSystemId, accessPointId });
  };

  return {
    rules,
    parts: { kind: "made", limitMs: options.partsLimitMs, create: createPart },

    async create(record) {
      const settings = await withVolumeInErrors("create", record.name, () =>
        parseVolumeOptions(record.options),
      );
      if (record.anonymous) {
        return { reference: "", mountpoint: volumeMountpoint(record.name), status: {} };
      }
      if (accessPointOf(record) !== undefined) {
        const { driverReference: reference, name } = record;
        return { reference, mountpoint: volumeMountpoint(name), status: {} }; // Its options stay as at its creation.
      }
      const accessPointId = await withVolumeInErrors("create", record.name, () =>
        accessPoints.create(record, settings),
      );
      usage.added();
      if (!usage.isCounted) {
        void accessPoints.list().then(
          (all) => usage.counted(all.length),
          (error: unknown) => logger.info({ err: error }, "cannot count the file system's access points"),
        );
      }
      logger.info(
        { volume: record.name, accessPoint: accessPointId, fileSystem: fileSystemId },
        "made a volume",
      );
      return {
        reference: formatAccessPoint({ fileSystemId, accessPointId }),
        mountpoint: volumeMountpoint(record.name),
        status: {},
      };
    },

    async remove(record) {
      const reference = accessPointOf(record);
      if (reference === undefined) {
        if (record.phase === Phase.CREATING && !record.anonymous) {
          await withVolumeInErrors("remove", record.name, () => removeUnanswered(record));
        }
        return;
      }
      await withVolumeInErrors("remove", record.name, () => removeAll(record, reference.accessPointId));
      logger.info(
        { volume: record.name, accessPoint: reference.accessPointId, fileSystem: reference.fileSystemId },
        "removed a volume; what was in it stays on the file system",
      );
    },

    async found(): Promise<readonly VolumeRecord[]> {
      const all = await accessPoints.list();
      usage.counted(all.length);
      const { ours, others } = volumesOfAccessPoints(all, instance);
      for (const other of others) {
        logger.info(other, "an access point of sockerless is not adopted");
      }
      return ours;
    },
    watchRoom: neverShort,
  };
}

/** Volumes without a file system: sufficient for clients that never share them. */
function logicalVolumes(logger: Logger): VolumeStore {
  return {
    rules,
    parts: partsReady,
    found: nothingFound,
    watchRoom: neverShort,
    async create(record) {
      await withVolumeInErrors("create", record.name, () => parseVolumeOptions(record.options));
      if (!record.anonymous) {
        logger.warn(
          { volume: record.name },
          "ecs.efs_filesystem_id is not set: containers will not share this volume, and it is empty at each start",
        );
      }
      return { reference: "", mountpoint: volumeMountpoint(record.name), status: {} };
    },
    remove: () => Promise.resolve(),
  };
}

/** Adds the volume's name to an operation's error. */
async function withVolumeInErrors<T>(verb: string, volume: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failureOf(`${verb} ${volume}`, error);
  }
}
