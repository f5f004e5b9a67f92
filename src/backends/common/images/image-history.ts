/** `docker history`: the steps in which an image was made, newest first. Pure. */
import { create, fromJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

import { systemError } from "../../../common/errors.ts";
import {
  type ImageHistoryEntry,
  ImageHistoryEntrySchema,
} from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ImageConfig } from "./image-config.ts";
import { familiarString, parseNamed } from "./reference.ts";

/**
 * The history of an image. Of the steps before the last only their words are kept, not the images they were.
 *
 * @throws system: it tells of more layers than there are
 */
export function historyOf(record: ImageRecord, config: ImageConfig): ImageHistoryEntry[] {
  let layer = 0;
  const entries = config.history.map((step) => {
    const size = step.emptyLayer ? 0n : record.layerSizes[layer];
    if (!step.emptyLayer && layer >= record.diffIds.length) {
      throw systemError("too many non-empty layers in History section");
    }
    layer += step.emptyLayer ? 0 : 1;
    return create(ImageHistoryEntrySchema, {
      id: "<missing>",
      ...timeOf(step.created),
      createdBy: step.createdBy,
      size: size ?? 0n,
      comment: step.comment,
    });
  });
  const newest = entries.at(-1);
  if (newest !== undefined) {
    newest.id = record.id;
    newest.tags = record.names.map((name) => familiarString(parseNamed(name)));
  }
  return entries.reverse();
}

function timeOf(written: string): { readonly created?: Timestamp } {
  try {
    return written === "" ? {} : { created: fromJson(TimestampSchema, written) };
  } catch {
    return {}; // Nobody checked it when the image came; a step without a time is no reason to refuse the rest.
  }
}
