import type { OwnRepository } from "../images/own-repository.ts";
import type { Known, Orphan } from "./orphan.ts";

/** This instance's images in the repository; those of other instances cannot be identified. */
export async function orphanedImages(
  repository: OwnRepository,
  own: string,
  known: Known,
): Promise<Orphan[]> {
  const tags = await repository.ownTags();
  return tags
    .filter(({ imageId }) => !known.hasImage(imageId))
    .map(({ tag, imageId }) => ({
      kind: "image",
      id: tag,
      purpose: `image ${imageId.slice(0, 19)}`,
      instance: own,
      async remove() {
        await repository.removeTag(tag);
        return undefined;
      },
    }));
}
