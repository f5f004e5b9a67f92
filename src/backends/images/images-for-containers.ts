/** The image operations that containers need: resolving their images, and committing them. */
import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../common/clock.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { type ImageSummary, ListImagesRequestSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord, SealedImage } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { LayerUnpacking } from "../driver/images.ts";
import type {
  CommittedImage,
  ImageCommit,
  ImageLayers,
  ImageSource,
  ResolvedImage,
} from "../driver/image-source.ts";
import { blobsOf } from "../state/image-table.ts";
import { abortable } from "./abortable-stream.ts";
import type { ImageCatalog } from "./image-catalog.ts";
import { commitImage } from "./image-commit.ts";
import type { ImageConfigs } from "./image-configs.ts";
import { storeDocuments } from "./image-documents.ts";
import { type ImageInstaller, runsAlike } from "./image-installer.ts";
import type { ImageWork } from "./image-work.ts";
import type { LayerSupply } from "./layer-supply.ts";
import type { PreparedImages } from "./prepared-images.ts";
import { type CollectionParts, collectUnneeded, hasUnneeded } from "./recover-images.ts";
import { parseNamed } from "./reference.ts";

/** Dependencies of these operations. */
export interface ContainerImageParts extends CollectionParts {
  readonly configs: ImageConfigs;
  readonly catalog: ImageCatalog;
  readonly installer: ImageInstaller;
  readonly unpacking: LayerUnpacking;
  readonly prepared: PreparedImages;
  readonly supply: LayerSupply;
  readonly work: ImageWork;
  readonly clock: Clock;
}

export class ImagesForContainers implements ImageSource {
  readonly #parts: ContainerImageParts;

  constructor(parts: ContainerImageParts) {
    this.#parts = parts;
  }

  async resolve(reference: string, platform?: Platform): Promise<ResolvedImage> {
    const { catalog, configs } = this.#parts;
    const record = catalog.find(reference, platform);
    return { record, config: configs.get(record.id).config };
  }

  idOf(reference: string): string | undefined {
    try {
      return this.#parts.index.find(reference).id;
    } catch {
      return undefined;
    }
  }

  descentOf(ids: readonly string[]): ReadonlySet<string> {
    return this.#parts.index.descentOf(ids);
  }

  async makeReady(image: ImageRecord, signal: AbortSignal): Promise<void> {
    const { index, prepared } = this.#parts;
    if (!prepared.waitsForStart(index.images.get(image.id) ?? image)) {
      await this.makeRunnable(image, signal);
    }
  }

  async makeRunnable(image: ImageRecord, signal: AbortSignal): Promise<void> {
    const { index, prepared, retention, work } = this.#parts;
    if (prepared.has(image.id)) {
      return;
    }
    using _layers = await retention.hold(image.diffIds);
    await using held = work.hold(signal);
    for (;;) {
      const record = index.images.get(image.id) ?? image;
      held.lease.hold(...blobsOf(record));
      const driverReference = await prepared.prepare(record, signal);
      const known = index.images.get(image.id);
      if (known === undefined) {
        await prepared.discard({ ...record, driverReference }, known); // Its removal did not know the reference.
        return;
      }
      if (known.driverReference === driverReference) {
        return;
      }
      if (runsAlike(known, record)) {
        await index.commit({ put: [{ ...known, driverReference }] });
        return;
      }
    }
  }

  async unpackAnew(image: ImageRecord, signal: AbortSignal): Promise<boolean> {
    const { prepared, unpacking } = this.#parts;
    if (unpacking.kind === "platform") {
      return false;
    }
    prepared.delete(image.id);
    await this.makeRunnable(image, signal);
    return true;
  }

  commit(request: ImageCommit): Promise<CommittedImage> {
    const { index, configs, supply, work } = this.#parts;
    return work.run(request.signal, async (lease, signal) => {
      const record = await supply.complete(lease, index.find(request.parentId), signal);
      const parent = { record, config: configs.get(record.id) };
      const layer = abortable(request.layer, signal);
      return await commitImage(this.#parts, lease, parent, { ...request, layer, signal });
    });
  }

  async adopt({ record, config, manifest }: SealedImage): Promise<void> {
    const { content, index, configs, work } = this.#parts;
    if (record === undefined || index.images.get(record.id) !== undefined) {
      return;
    }
    await work.run(work.closing, async (lease) => {
      const parsed = await storeDocuments(content, lease, record, { config, manifest });
      configs.add(record.id, parsed);
      const isFree = (name: string): boolean => index.named(parseNamed(name)) === undefined;
      const { names, digests } = record;
      const adopted = {
        ...record,
        names: names.filter(isFree),
        digests: digests.filter(isFree),
        layerSizes: [],
      };
      await index.commit({ put: [adopted] });
    });
  }

  openLayers(imageId: string, signal: AbortSignal): Promise<ImageLayers> {
    return this.#parts.supply.open(imageId, signal);
  }

  async collectUnneeded(): Promise<void> {
    await collectUnneeded(this.#parts);
  }

  hasUnneeded(): Promise<boolean> {
    return hasUnneeded(this.#parts);
  }

  async forgetUnusedLayers(diffIds: readonly string[]): Promise<void> {
    await this.#parts.retention.forgetUnused(diffIds);
  }

  layersSize(): bigint {
    const { index } = this.#parts;
    const sizes = new Map(
      [...index.images.values()].flatMap((record) => {
        const stacks = index.images.stacksOf(record);
        return record.layerSizes.map((size, at) => [stacks[at], size]);
      }),
    );
    return sizes.values().reduce((sum, size) => sum + size, 0n);
  }

  async listWithSizes(signal: AbortSignal): Promise<ImageSummary[]> {
    return await this.#parts.catalog.list(create(ListImagesRequestSchema, { sharedSize: true }), signal);
  }
}
