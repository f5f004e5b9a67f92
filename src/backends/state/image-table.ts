/** The table of images, with indexes besides the ID. */
import { type ImageRecord, ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { type LayerStack, LayerStacks } from "./layer-stacks.ts";
import { type ForReaders, RecordTable } from "./table.ts";

const idOf = ({ id }: ImageRecord): string => id;

/** Committed images; with the indexes, a lookup reads no other image. */
export class ImageTable extends RecordTable<typeof ImageRecordSchema> {
  readonly #byParent = this.indexed(({ parentId }) => (parentId === "" ? [] : [parentId]));
  readonly #byLayer = this.indexed(({ diffIds }) => diffIds);
  readonly #byBlob = this.indexed(blobsOf);
  readonly #stacks = new LayerStacks();
  /** All IDs in order, once they were needed and until there are others. */
  #sortedIds: readonly string[] | undefined;

  constructor() {
    // Names are as long as clients like, and each list has all of them; configurations are counted where they are kept.
    super("image", ImageRecordSchema, idOf, { weighed: ({ names, digests }) => ({ names, digests }) });
  }

  /** The first images whose IDs (`sha256:…`) start with a text, by ID: two at most. */
  startingWith(start: string): readonly ImageRecord[] {
    this.#sortedIds ??= [...this.keys()].sort();
    const first = placeOf(this.#sortedIds, start);
    return this.#sortedIds
      .slice(first, first + 2)
      .filter((id) => id.startsWith(start))
      .flatMap((id) => this.get(id) ?? []);
  }

  /** Images that were committed on another one, by its ID. */
  childrenOf(imageId: string): readonly ImageRecord[] {
    return this.#byParent.get(imageId);
  }

  /** Whether images were committed on another one, by its ID. */
  isParent(imageId: string): boolean {
    return this.#byParent.count(imageId) > 0;
  }

  /** Images with a layer, by its diff ID. */
  withLayer(diffId: string): readonly ImageRecord[] {
    return this.#byLayer.get(diffId);
  }

  /** Whether an image has a layer, by its diff ID. */
  hasLayer(diffId: string): boolean {
    return this.#byLayer.count(diffId) > 0;
  }

  /** The stacks that an image's layers top, bottom first. */
  stacksOf({ diffIds }: ImageRecord): readonly LayerStack[] {
    return this.#stacks.of(diffIds);
  }

  /** Images that refer to a blob, by its digest. */
  referringTo(digest: string): readonly ImageRecord[] {
    return this.#byBlob.get(digest);
  }

  /** Whether an image refers to a blob, by its digest. */
  isReferenced(digest: string): boolean {
    return this.#byBlob.count(digest) > 0;
  }

  protected override replaced(before: ImageRecord | undefined, after: ImageRecord | undefined): void {
    super.replaced(before, after);
    this.#stacks.replace(before?.diffIds, after?.diffIds);
    if (before === undefined || after === undefined) {
      this.#sortedIds = undefined;
    }
  }
}

/** The table, for readers. */
export type Images = ForReaders<ImageTable>;

/** Digests of the blobs that an image refers to. A push replaces them, so hold them before any await. */
export function blobsOf({ id, manifestDigest, layerDigests }: ImageRecord): string[] {
  return [id, manifestDigest, ...layerDigests].filter((digest) => digest !== "");
}

/** The number of texts before the first that is not less than `text`. */
function placeOf(sorted: readonly string[], text: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? "") < text) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}
