/** `docker history`: the steps that made an image, newest first. Pure. */
import { create, fromJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

import { systemError } from "../../common/errors.ts";
import { type ImageHistoryEntry, ImageHistoryEntrySchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImageConfig } from "./image-config.ts";
import { familiarForms } from "./reference.ts";

/**
 * The history of an image. Steps without an image here only have the text of the history.
 *
 * @param ancestors the image's parent, the parent's parent, …
 * @throws system if it lists more layers than exist
 */
export function historyOf(
  record: ImageRecord,
  config: ImageConfig,
  ancestors: readonly ImageRecord[],
): ImageHistoryEntry[] {
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
  const newestFirst = entries.reverse();
  for (const [index, image] of [record, ...ancestors].entries()) {
    const entry = newestFirst[index];
    if (entry !== undefined) {
      entry.id = image.id;
      entry.tags = image.names.map((name) => familiarForms(name).text);
    }
  }
  return newestFirst;
}

function timeOf(written: string): { readonly created?: Timestamp } {
  try {
    return written === "" ? {} : { created: fromJson(TimestampSchema, written) };
  } catch {
    return {}; // Not validated earlier; one invalid time must not hide the rest.
  }
}
