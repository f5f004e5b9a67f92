/**
 * Image mounts (`--mount type=image`) on platforms without them: for each, a container of that image copies its files
 * to a volume and ends before the main container starts.
 */
import { createHash } from "node:crypto";

import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";

/** A copied image, or a subpath of one. */
export interface ImageCopy {
  /** Name of the copying container and of the volume: lowercase letters, digits and hyphens. */
  readonly name: string;
  readonly image: ImageRecord;
  /** Arguments of the agent in that container. */
  readonly args: readonly string[];
}

/** A mount of a copy in the main container. */
export interface CopyMount {
  readonly copy: ImageCopy["name"];
  readonly destination: string;
  readonly readOnly: boolean;
}

/** The copies for a container, and its mounts of them in order. */
export interface CopiedImages {
  readonly copies: readonly ImageCopy[];
  readonly mounts: readonly CopyMount[];
}

/** Path of the volume in the copying container. */
export const copiedTo = "/.sockerless-image";

const nameDigits = 12;

/** The copies for a container's image mounts. */
export function copiedImages(mounts: readonly ResolvedMount[]): CopiedImages {
  const copies = new Map<string, ImageCopy>();
  const mounted: CopyMount[] = [];
  for (const mount of mounts) {
    const { image, subpath = "", destination, readOnly } = mount;
    if (image === undefined) {
      continue;
    }
    const name = nameOf(image, mount);
    copies.set(name, { name, image, args: ["copy-image", copiedTo, ...(subpath === "" ? [] : [subpath])] });
    mounted.push({ copy: name, destination, readOnly });
  }
  return { copies: [...copies.values()], mounts: mounted };
}

/** The name of a copy: shared by mounts with the same content, except writable ones. */
function nameOf({ id }: ImageRecord, { subpath = "", destination, readOnly }: ResolvedMount): string {
  const shown = [id, subpath, ...(readOnly ? [] : [destination])].join("\n");
  return `image-${createHash("sha256").update(shown).digest("hex").slice(0, nameDigits)}`;
}
