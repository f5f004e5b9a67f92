/**
 * Images that a container mounts beside its own (`--mount type=image`), on platforms that mount none: for each one a
 * container of that image, which puts its files into a volume and ends before the main container starts.
 */
import { createHash } from "node:crypto";

import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";

/** An image, or a part of one, that is copied. */
export interface ImageCopy {
  /** Name of the container that copies, and of the volume: lowercase letters, digits and hyphens. */
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

/** The copies that a container mounts, and its mounts of them in their order. */
export interface CopiedImages {
  readonly copies: readonly ImageCopy[];
  readonly mounts: readonly CopyMount[];
}

/** Path of the volume in the container that copies the image's files to it. */
export const copiedTo = "/.sockerless-image";

const nameDigits = 12;

/** The copies for a container's mounts; other mounts are passed over. */
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

/** The name of a copy: the same for mounts that show the same, which those that are written to do not. */
function nameOf({ id }: ImageRecord, { subpath = "", destination, readOnly }: ResolvedMount): string {
  const shown = [id, subpath, ...(readOnly ? [] : [destination])].join("\n");
  return `image-${createHash("sha256").update(shown).digest("hex").slice(0, nameDigits)}`;
}
