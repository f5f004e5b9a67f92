/**
 * Layers that a pull left at the registry because the driver's cloud pulls them itself. They are fetched when a save,
 * push or commit needs them after all; from then on the image is like any other.
 */
import type { Clock } from "../../common/clock.ts";
import { conflict, messageOf, systemError } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { firstSuccess } from "../concurrency/first-success.ts";
import { KeyedLocks } from "../concurrency/serial.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageIndex } from "./image-index.ts";
import type { ImageWork } from "./image-work.ts";
import { type LayerBlob, layerBlobs } from "./layer-blobs.ts";
import { LayerFetch } from "./layer-fetch.ts";
import { LayerHeaders, type LayerReader } from "./layer-headers.ts";
import type { Limiter } from "../concurrency/limiter.ts";
import { blobsOf } from "../state/image-table.ts";
import { maxJsonBytes, parseManifest } from "./manifest.ts";
import { type NamedReference, parseNamed, repositoryName } from "./reference.ts";
import { Registry, type RegistryOptions } from "./registry/registry.ts";
import type { KnownCredentials } from "./known-credentials.ts";
import { findStoredLayer } from "./stored-layer.ts";

/** Patience with a registry, in bytes: then another one that may have the layers is asked as well. */
const patience = { pauseMs: 15_000, leastProgress: 256 * 1024 };

/** Dependencies of the fetches. */
export interface LayerSupplyParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly clock: Clock;
  readonly registry: RegistryOptions;
  readonly downloads: Limiter;
  readonly credentials: KnownCredentials;
  readonly work: ImageWork;
}

/** Layers held until disposed. */
export interface OpenLayers extends AsyncDisposable {
  /** Bottom first. */
  readonly layers: readonly LayerReader[];
}

/** Fetches missing layers. */
export class LayerSupply {
  readonly #parts: LayerSupplyParts;
  readonly #fetches = new KeyedLocks();
  readonly #headers = new LayerHeaders();
  /** Bytes of images whose layers are being fetched, by ID: others may wait for the same fetch. */
  readonly #advances = new Map<string, number>();

  constructor(parts: LayerSupplyParts) {
    this.#parts = parts;
  }

  /**
   * A layer of any image, by its diff ID, held by the lease. A layer left by a pull is fetched together with the others
   * of its image; concurrent callers share the fetch. Any image can claim the layer, so one that does not give it leads
   * to the others.
   *
   * @param stack diff IDs of the image that it is for, bottom first: images that this one stands on are asked first
   * @returns undefined if no image has it
   * @throws the error of the first fetch
   */
  async find(
    lease: BlobLease,
    diffId: string,
    stack: readonly string[],
    signal: AbortSignal,
  ): Promise<LayerBlob | undefined> {
    const { content, index, clock } = this.#parts;
    const stored = (): Promise<LayerBlob | undefined> =>
      findStoredLayer(content, lease, index.images.withLayer(diffId), diffId);
    const found = await stored();
    if (found !== undefined) {
      return found;
    }
    const fetches = imagesToAsk(index.images.withLayer(diffId), diffId, stack).map((record) => ({
      progress: () => this.#advances.get(record.id) ?? 0,
      run: (ended: AbortSignal) =>
        this.#fetches.run(
          record.id,
          async () => {
            const known = await stored();
            if (known !== undefined) {
              return known;
            }
            const whole = await this.complete(lease, index.images.get(record.id) ?? record, ended);
            return await findStoredLayer(content, lease, [whole], diffId);
          },
          ended,
        ),
    }));
    return fetches.length === 0 ? undefined : await firstSuccess(fetches, { clock, ...patience }, signal);
  }

  /**
   * Returns the image's record once its layers are in the content store, held by the lease.
   *
   * @throws conflict if their location is unknown; system if the registry does not provide them (any more)
   */
  async complete(lease: BlobLease, record: ImageRecord, signal: AbortSignal): Promise<ImageRecord> {
    lease.hold(...blobsOf(record));
    if (record.layerSizes.length === record.diffIds.length) {
      return record;
    }
    const fetches = sourcesOf(record).map((source) => {
      let bytes = 0;
      const advanced = (more: number): void => {
        bytes += more;
        this.#advances.set(record.id, (this.#advances.get(record.id) ?? 0) + more);
      };
      const run = async (ended: AbortSignal): Promise<ImageRecord> => {
        try {
          return await this.#fetch(lease, record, source, advanced, ended);
        } catch (error) {
          throw systemError(
            `the layers of image ${record.id} are still at ${repositoryName(source)}, which does not give them: ${messageOf(error)}`,
            error,
          );
        }
      };
      return { run, progress: () => bytes };
    });
    if (fetches.length === 0) {
      throw conflict(`the layers of image ${record.id} are not on this backend`);
    }
    try {
      return await firstSuccess(fetches, { clock: this.#parts.clock, ...patience }, signal);
    } finally {
      this.#advances.delete(record.id);
    }
  }

  /**
   * The layers of an image, by its ID, held until disposed; fetches those that a pull left.
   *
   * @param signal ends fetching and reading
   * @throws not-found; the error of the fetch
   */
  async open(imageId: string, signal: AbortSignal): Promise<OpenLayers> {
    const { content, index, work } = this.#parts;
    await using resources = new AsyncDisposableStack();
    const held = resources.use(work.hold(signal));
    const record = await this.complete(held.lease, index.find(imageId), held.signal);
    const blobs = await layerBlobs(content, record);
    const owned = resources.move();
    return {
      layers: blobs.map(({ blob: { digest } }) => {
        const open = (): AsyncIterable<Uint8Array> => content.stream(digest, held.signal);
        const stillAsked = (): void => held.signal.throwIfAborted();
        return { open, headers: () => this.#headers.of(digest, open, stillAsked) };
      }),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }

  async #fetch(
    lease: BlobLease,
    record: ImageRecord,
    source: NamedReference,
    advanced: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<ImageRecord> {
    const { content, index, configs, clock, downloads, credentials } = this.#parts;
    const auth = await credentials.ofLayers(source);
    using registry = await Registry.connect(source.domain, auth, this.#parts.registry, signal);
    const manifest =
      record.digests.length > 0
        ? {
            bytes: await content.read(record.manifestDigest, maxJsonBytes),
            mediaType: record.manifestMediaType,
            digest: record.manifestDigest,
          }
        : await registry.manifest(source.path, source.digest ?? "", signal); // The driver has compressed its layers.
    const document = parseManifest(manifest.bytes, manifest.mediaType);
    if (document.kind !== "manifest") {
      throw systemError(`the manifest of image ${record.id} is an index`);
    }
    const report = (): void => {};
    const download = { registry, path: source.path, store: content, lease, clock, report, advanced, signal };
    const layers = await new LayerFetch(download, index, downloads).fetch(
      document.manifest.layers,
      configs.get(record.id),
    );
    await content.putBytes(lease, manifest.bytes, { digest: manifest.digest });
    await content.sync([manifest.digest, ...layers.map(({ digest }) => digest)]);
    const now = index.images.get(record.id);
    const isSame = now?.manifestDigest === record.manifestDigest;
    const completed = {
      ...(isSame ? now : record),
      size: BigInt(layers.reduce((sum, { size }) => sum + size, 0)),
      manifestDigest: manifest.digest,
      manifestMediaType: manifest.mediaType,
      layerDigests: layers.map(({ digest }) => digest),
      layerSizes: layers.map(({ size }) => BigInt(size)),
    };
    if (isSame) {
      await index.commit({ put: [completed] });
    }
    return completed;
  }
}

/** The images that have a layer which was not fetched; first those on whose layers the whole stack stands, the highest before. */
function imagesToAsk(
  records: readonly ImageRecord[],
  diffId: string,
  stack: readonly string[],
): readonly ImageRecord[] {
  const heightOf = ({ diffIds }: ImageRecord): number =>
    diffIds.every((each, at) => each === stack[at]) ? diffIds.length : 0;
  return records
    .filter(({ diffIds, layerSizes }) => layerSizes.length !== diffIds.length && diffIds.includes(diffId))
    .toSorted((one, other) => heightOf(other) - heightOf(one));
}

/**
 * References for fetching an image's layers: those it was pulled by, first the one that tasks pull it by; for an image
 * made here and adopted, the driver's reference.
 */
function sourcesOf({ digests, driverReference }: ImageRecord): readonly NamedReference[] {
  const own = driverReference === "" ? undefined : parseNamed(driverReference);
  if (digests.length === 0) {
    return own?.digest === undefined ? [] : [own];
  }
  const isOwn = (source: NamedReference): boolean =>
    own !== undefined && repositoryName(source) === repositoryName(own);
  return digests.map(parseNamed).toSorted((one, other) => Number(isOwn(other)) - Number(isOwn(one)));
}
