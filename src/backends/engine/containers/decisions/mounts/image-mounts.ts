/** Images that a container mounts in addition to its own (`--mount type=image`). */
import { create } from "@bufbuild/protobuf";

import { invalid } from "../../../../../common/errors.ts";
import type { Mount } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type ContainerRecord,
  type ImageMount,
  ImageMountSchema,
  type ImageRecord,
  ImageRecordSchema,
} from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Table } from "../../../../state/table.ts";
import type { ImageSource } from "../../../../driver/image-source.ts";
import { cleanPath } from "./plan-mounts.ts";

/** The most layers of the images that a container mounts, and of them: its record names the layers of each. */
const mostLayers = 1_000;

/** Warning for a user who mounts an image. */
export const imageMountWarning = "Image mount is an experimental feature";

/** The images to mount, as they are now, by destination. */
export interface PlannedImageMounts {
  readonly mounts: readonly ImageMount[];
  readonly images: readonly ImageRecord[];
}

/** Resolves the images of mounts. @throws not-found; invalid: not a reference, or too many */
export async function planImageMounts(
  images: ImageSource,
  mounts: readonly Mount[],
): Promise<PlannedImageMounts> {
  const planned: ImageMount[] = [];
  const records: ImageRecord[] = [];
  let layers = 0;
  for (const mount of mounts.filter(({ type }) => type === "image")) {
    const { record } = await images.resolve(mount.source);
    layers += Math.max(1, record.diffIds.length);
    if (layers > mostLayers) {
      throw invalid(`invalid mount config: the mounted images have at most ${mostLayers} layers together`);
    }
    records.push(record);
    planned.push(
      create(ImageMountSchema, {
        destination: cleanPath(mount.target),
        imageId: record.id,
        layerDiffIds: record.diffIds,
        subpath: mount.imageOptions?.subpath ?? "",
      }),
    );
  }
  return { mounts: planned, images: records };
}

/** The image with an ID, or the container's own copy of its record if it was removed by force. */
export function imageRecordOf(
  images: Table<ImageRecord>,
  { platform }: ContainerRecord,
  id: string,
  diffIds: readonly string[],
): ImageRecord {
  const remembered = { id, diffIds: [...diffIds], ...(platform === undefined ? {} : { platform }) };
  return images.get(id) ?? create(ImageRecordSchema, remembered);
}
