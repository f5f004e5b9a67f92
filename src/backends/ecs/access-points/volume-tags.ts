/** What an access point's tags say of its volume, written and read. */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type AccessPointDescription, LifeCycleState } from "@aws-sdk/client-efs";
import { z } from "zod";

import type { Logger } from "../../../common/logger.ts";
import { type VolumeRecord, VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { detailsOfTags, detailsToTags, instanceTag, tagValue, volumeTag, type WrittenTag } from "../tags.ts";
import { volumeMountpoint } from "./mountpoint.ts";
import { formatAccessPoint } from "./reference.ts";

const detailsSchema = z.object({
  driver: z.string(),
  /** Seconds and nanoseconds. */
  created: z.tuple([z.number(), z.number()]),
  labels: z.record(z.string(), z.string()),
  options: z.record(z.string(), z.string()),
});

/** The tags of a volume's access point. Labels that are too long are left out, and it is logged. */
export function volumeTags(volume: VolumeRecord, instance: string, logger: Logger): WrittenTag[] {
  const details: z.output<typeof detailsSchema> = {
    driver: volume.driver,
    created: [Number(volume.created?.seconds ?? 0n), volume.created?.nanos ?? 0],
    labels: volume.labels,
    options: volume.options,
  };
  let written = detailsToTags(details);
  if (written === undefined) {
    logger.warn(
      { volume: volume.name },
      "the volume's labels do not fit in AWS's tags: they are in the state alone",
    );
    written = detailsToTags({ ...details, labels: {} }) ?? [];
  }
  return [{ Key: volumeTag, Value: volume.name }, { Key: instanceTag, Value: instance }, ...written];
}

/** An access point of sockerless that is not adopted, and why. */
export interface OtherAccessPoint {
  readonly accessPoint: string;
  readonly volume: string;
  readonly reason: string;
}

/** The volumes that access points of this instance are. Those that are not of sockerless at all are left out. */
export function volumesOfAccessPoints(
  all: readonly AccessPointDescription[],
  instance: string,
): { readonly ours: VolumeRecord[]; readonly others: OtherAccessPoint[] } {
  const ours = new Map<string, VolumeRecord>();
  const others: OtherAccessPoint[] = [];
  for (const description of all) {
    const tags = description.Tags ?? [];
    const volume = tagValue(tags, volumeTag);
    const accessPoint = description.AccessPointId;
    const state = description.LifeCycleState;
    if (volume === undefined || accessPoint === undefined || state === LifeCycleState.DELETED) {
      continue;
    }
    const owner = tagValue(tags, instanceTag);
    const reason =
      owner !== instance
        ? owner === undefined
          ? "it names no instance"
          : `it is of instance ${owner}`
        : state !== LifeCycleState.AVAILABLE
          ? `it is ${state}`
          : ours.has(volume)
            ? "the volume has another one"
            : undefined;
    if (reason !== undefined) {
      others.push({ accessPoint, volume, reason });
      continue;
    }
    ours.set(volume, volumeRecord(description, volume, accessPoint));
  }
  return { ours: [...ours.values()], others };
}

function volumeRecord(
  description: AccessPointDescription,
  name: string,
  accessPointId: string,
): VolumeRecord {
  const details = detailsSchema.safeParse(detailsOfTags(description.Tags ?? [])).data;
  return create(VolumeRecordSchema, {
    name,
    driver: details?.driver ?? "local",
    created: timestampOf(details?.created),
    labels: details?.labels ?? {},
    options: details?.options ?? {},
    mountpoint: volumeMountpoint(name),
    driverReference: formatAccessPoint({ fileSystemId: description.FileSystemId ?? "", accessPointId }),
  });
}

function timestampOf(created: readonly [number, number] | undefined): Timestamp {
  const start = timestampFromDate(new Date(0));
  return created === undefined ? start : { ...start, seconds: BigInt(created[0]), nanos: created[1] };
}
