/** The table of images, with indexes besides the ID. */
import { type ImageRecord, ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { type LayerStack, LayerStacks } from "./layer-stacks.ts";
import { RecordTable, type Table } from "./table.ts";
import { TableIndex } from "./table-index.ts";

/** Committed images; with the indexes, a lookup reads no other image. */
export interface Images extends Table<ImageRecord> {
  /** The first images whose IDs (`sha256:…`) start with a text, by ID: two at most. */
  startingWith(start: string): readonly ImageRecord[];
  /** Images that were committed on another one, by its ID. */
  childrenOf(imageId: string): readonly ImageRecord[];
  /** Whether images were committed on another one, by its ID. */
  isParent(imageId: string): boolean;
  /** Images with a layer, by its diff ID. */
  withLayer(diffId: string): readonly ImageRecord[];
  /** Whether an image has a layer, by its diff ID. */
  hasLayer(diffId: string): boolean;
  /** The stacks that an image's layers top, bottom first. */
  stacksOf(image: ImageRecord): readonly LayerStack[];
  /** Images that refer to a blob, by its digest. */
  referringTo(digest: string): readonly ImageRecord[];
  /** Whether an image refers to a blob, by its digest. */
  isReferenced(digest: string): boolean;
}

const idOf = ({ id }: ImageRecord): string => id;

/** The table of {@link Images}. */
export class ImageTable extends RecordTable<typeof ImageRecordSchema> implements Images {
  readonly #byParent = new TableIndex(idOf, ({ parentId }) => (parentId === "" ? [] : [parentId]));
  readonly #byLayer = new TableIndex(idOf, ({ diffIds }) => diffIds);
  readonly #byBlob = new TableIndex(idOf, blobsOf);
  readonly #stacks = new LayerStacks();
  /** All IDs in order, once they were needed and until there are others. */
  #sortedIds: readonly string[] | undefined;

  constructor() {
    super("image", ImageRecordSchema, idOf);
  }

  startingWith(start: string): readonly ImageRecord[] {
    this.#sortedIds ??= [...this.keys()].sort();
    const first = placeOf(this.#sortedIds, start);
    return this.#sortedIds
      .slice(first, first + 2)
      .filter((id) => id.startsWith(start))
      .flatMap((id) => this.get(id) ?? []);
  }

  childrenOf(imageId: string): readonly ImageRecord[] {
    return this.#byParent.get(imageId);
  }

  isParent(imageId: string): boolean {
    return this.#byParent.count(imageId) > 0;
  }

  withLayer(diffId: string): readonly ImageRecord[] {
    return this.#byLayer.get(diffId);
  }

  hasLayer(diffId: string): boolean {
    return this.#byLayer.count(diffId) > 0;
  }

  stacksOf({ diffIds }: ImageRecord): readonly LayerStack[] {
    return this.#stacks.of(diffIds);
  }

  referringTo(digest: string): readonly ImageRecord[] {
    return this.#byBlob.get(digest);
  }

  isReferenced(digest: string): boolean {
    return this.#byBlob.count(digest) > 0;
  }

  protected override replaced(before: ImageRecord | undefined, after: ImageRecord | undefined): void {
    for (const index of [this.#byParent, this.#byLayer, this.#byBlob]) {
      index.replace(before, after);
    }
    this.#stacks.replace(before?.diffIds, after?.diffIds);
    if (before === undefined || after === undefined) {
      this.#sortedIds = undefined;
    }
  }
}

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
