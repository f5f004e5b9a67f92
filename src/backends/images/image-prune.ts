/** `docker image prune`: which images to remove. Pure. */
import type { StringList } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { Filters } from "../model/filters.ts";
import { untilOf } from "../model/until-filter.ts";
import { nanosecondsOf } from "../model/records.ts";
import { builtInLabel, helloName } from "./hello-image.ts";
import type { ImageConfig } from "./image-config.ts";

/** An image with its configuration. */
export interface PrunedImage {
  readonly record: ImageRecord;
  readonly config: ImageConfig;
  /** True if others were committed on it. */
  readonly isParent: boolean;
}

/** A reference that a prune removes. */
export interface PrunedReference {
  readonly imageId: string;
  /** A name or digest reference; the image's ID if it has none. */
  readonly reference: string;
  /** True if the image is only removed while it has no name. */
  readonly isDangling: boolean;
}

/**
 * Lists the references to remove in a prune: all of an image, or the ID of one without. The removal itself spares
 * images used by containers. The built-in image keeps its name, as it could not be pulled again.
 *
 * @throws invalid: a filter
 */
export function referencesToPrune(
  images: readonly PrunedImage[],
  requested: Readonly<Record<string, StringList>>,
  nowMs: number,
): PrunedReference[] {
  const filters = new Filters(requested, ["dangling", "label", "label!", "until"]);
  const danglingOnly = filters.boolean("dangling") ?? true;
  const until = untilOf(filters, nowMs);
  const isOldEnough = ({ config: { created } }: PrunedImage): boolean =>
    until === undefined || (created !== undefined && nanosecondsOf(created) <= until);
  const hasLabels = ({ config: { config } }: PrunedImage): boolean => filters.matchesLabels(config.labels);
  return images
    .filter((image) => isOldEnough(image) && hasLabels(image))
    .filter(({ record, isParent }) => !danglingOnly || (record.names.length === 0 && !isParent))
    .flatMap(({ record, config }) => {
      const references = [...record.names, ...record.digests];
      const keepsName = config.config.labels[builtInLabel] !== undefined;
      const pruned =
        references.length === 0 ? [record.id] : references.filter((each) => !keepsName || each !== helloName);
      return pruned.map((reference) => ({ imageId: record.id, reference, isDangling: danglingOnly }));
    });
}

/**
 * Whether an image still is as when a prune chose the reference: others may have moved its name, or have named it.
 *
 * @param record undefined: it is gone
 */
export function isStillPruned(
  record: ImageRecord | undefined,
  { imageId, reference, isDangling }: PrunedReference,
): record is ImageRecord {
  if (record === undefined || (isDangling && record.names.length > 0)) {
    return false;
  }
  const references = [...record.names, ...record.digests];
  return reference === imageId ? references.length === 0 : references.includes(reference);
}
