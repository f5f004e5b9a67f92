/** Metadata of a share that describe its volume: writing and reading. */
import { create } from "@bufbuild/protobuf";
import * as v from "valibot";

import { moment, object, openMap, read } from "../../../common/documents.ts";
import type { Logger } from "../../../common/logger.ts";
import { type VolumeRecord, VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { shareName, volumeMountpoint } from "./names.ts";
import { formatShare, type ShareReference } from "./reference.ts";

/** Names are identifiers sent as headers, and thus case-insensitive. */
const volumeKey = "sockerless_volume";
const instanceKey = "sockerless_instance";
const detailsKey = "sockerless_details";
/** Azure accepts 8 KiB of metadata per share, names included. */
const longestDetails = 7 * 1024;

const detailsSchema = object({
  created: moment,
  labels: openMap(v.string()),
  options: openMap(v.string()),
});

/** Metadata as returned by Azure. */
type Metadata = Readonly<Record<string, string>>;

/** The metadata of a volume's share. Too long labels are omitted, with a warning. */
export function shareMetadata(
  volume: VolumeRecord,
  instance: string,
  logger: Logger,
): Record<string, string> {
  const details: v.InferOutput<typeof detailsSchema> = {
    created: [Number(volume.created?.seconds ?? 0n), volume.created?.nanos ?? 0],
    labels: volume.labels,
    options: volume.options,
  };
  let written = encode(details);
  if (written.length > longestDetails) {
    logger.warn(
      { volume: volume.name },
      "the volume's labels do not fit in its share's metadata: they are in the state alone",
    );
    written = encode({ ...details, labels: {} });
  }
  return { [volumeKey]: volume.name, [instanceKey]: instance, [detailsKey]: written };
}

/** The instance of sockerless that created a share; undefined if none did. */
export function instanceOfShare(metadata: Metadata): string | undefined {
  return metadataValue(metadata, instanceKey);
}

/**
 * The record of a share's volume.
 *
 * @returns undefined if the share is not named after what the metadata tell: they are copied with it
 */
export function volumeOfShare(reference: ShareReference, metadata: Metadata): VolumeRecord | undefined {
  const name = metadataValue(metadata, volumeKey);
  if (name === undefined) {
    return undefined;
  }
  const { created: [seconds, nanos] = [0, 0], labels = {}, options = {} } = decode(metadata) ?? {};
  const record = create(VolumeRecordSchema, {
    name,
    driver: "azure-files",
    created: { seconds: BigInt(seconds), nanos },
    labels,
    options,
    mountpoint: volumeMountpoint(name),
    driverReference: formatShare(reference),
  });
  return shareName(record, instanceOfShare(metadata) ?? "") === reference.share ? record : undefined;
}

function encode(details: v.InferOutput<typeof detailsSchema>): string {
  return Buffer.from(JSON.stringify(details)).toString("base64url");
}

/** @returns undefined if there are none, or somebody has changed them */
function decode(metadata: Metadata): Partial<v.InferOutput<typeof detailsSchema>> | undefined {
  try {
    const text = Buffer.from(metadataValue(metadata, detailsKey) ?? "", "base64url").toString("utf8");
    return read(detailsSchema, JSON.parse(text)).value;
  } catch {
    return undefined;
  }
}

function metadataValue(metadata: Metadata, key: string): string | undefined {
  return Object.entries(metadata).find(([name]) => name.toLowerCase() === key)?.[1];
}
