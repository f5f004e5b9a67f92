/** Tags of an access point that describe its volume: writing and reading. */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type AccessPointDescription, LifeCycleState } from "@aws-sdk/client-efs";
import * as v from "valibot";

import { moment, object, openMap, read } from "../../../common/documents.ts";
import type { Logger } from "../../../common/logger.ts";
import {
  type VolumePart,
  VolumePartSchema,
  type VolumeRecord,
  VolumeRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import {
  detailsOfTags,
  detailsToTags,
  instanceTag,
  partOfTag,
  tagValue,
  volumeTag,
  type WrittenTag,
} from "../tags.ts";
import { volumeMountpoint } from "./mountpoint.ts";
import type { VolumeDirectory } from "./parts.ts";
import { formatAccessPoint } from "./reference.ts";

const detailsSchema = object({
  driver: v.string(),
  created: moment,
  labels: openMap(v.string()),
  options: openMap(v.string()),
});

/** The tags of a volume's access point. Too long labels are omitted, with a warning. */
export function volumeTags(volume: VolumeRecord, instance: string, logger: Logger): WrittenTag[] {
  const details: v.InferOutput<typeof detailsSchema> = {
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

const partSchema = object({ subpath: v.string() });

/** The tags of the access point for a volume's subpath. */
export function partTags({ volume, subpath, wholeId }: VolumeDirectory, instance: string): WrittenTag[] {
  return [
    { Key: volumeTag, Value: volume.name },
    { Key: instanceTag, Value: instance },
    { Key: partOfTag, Value: wholeId },
    ...(detailsToTags({ subpath } satisfies v.InferOutput<typeof partSchema>) ?? []),
  ];
}

/** An access point of sockerless that is not adopted, and why. */
export interface OtherAccessPoint {
  readonly accessPoint: string;
  readonly volume: string;
  readonly reason: string;
}

/** The access points of an instance for whole volumes with a name, in any state. @returns their IDs */
export function idsOfVolume(
  all: readonly AccessPointDescription[],
  instance: string,
  name: string,
): string[] {
  return all
    .filter(
      ({ Tags = [], LifeCycleState: state }) =>
        tagValue(Tags, volumeTag) === name &&
        tagValue(Tags, instanceTag) === instance &&
        tagValue(Tags, partOfTag) === undefined &&
        state !== LifeCycleState.DELETED,
    )
    .map(({ AccessPointId = "" }) => AccessPointId);
}

/** The volumes of this instance's access points. Access points that are not sockerless's are omitted. */
export function volumesOfAccessPoints(
  all: readonly AccessPointDescription[],
  instance: string,
): { readonly ours: VolumeRecord[]; readonly others: OtherAccessPoint[] } {
  const ours = new Map<string, VolumeRecord>();
  const others: OtherAccessPoint[] = [];
  for (const description of all.filter(({ Tags }) => tagValue(Tags ?? [], partOfTag) === undefined)) {
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
    const record = volumeRecord(description, volume, accessPoint);
    ours.set(volume, { ...record, parts: partsAmong(all, accessPoint) });
  }
  return { ours: [...ours.values()], others };
}

/** The IDs of the access points of a volume's subpaths, by that of the whole volume. */
export function partIdsOf(all: readonly AccessPointDescription[], wholeId: string): string[] {
  return all
    .filter(({ Tags }) => tagValue(Tags ?? [], partOfTag) === wholeId)
    .flatMap(({ AccessPointId }) => AccessPointId ?? []);
}

/** The subpaths of the volume with this access point. */
function partsAmong(all: readonly AccessPointDescription[], wholeId: string): VolumePart[] {
  return all.flatMap(({ AccessPointId: accessPointId = "", FileSystemId: fileSystemId = "", Tags = [] }) => {
    const subpath = read(partSchema, detailsOfTags(Tags)).value?.subpath;
    return subpath === undefined || tagValue(Tags, partOfTag) !== wholeId
      ? []
      : [
          create(VolumePartSchema, {
            subpath,
            driverReference: formatAccessPoint({ fileSystemId, accessPointId }),
          }),
        ];
  });
}

function volumeRecord(
  description: AccessPointDescription,
  name: string,
  accessPointId: string,
): VolumeRecord {
  const details = read(detailsSchema, detailsOfTags(description.Tags ?? [])).value;
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
