/**
 * Layers that a pull left where they were, because the driver's cloud pulls them itself. Who needs them after all (save,
 * push, commit) has them fetched then; from there on the image is like any other.
 */
import type { Clock } from "../../../common/clock.ts";
import { conflict, messageOf, systemError } from "../../../common/errors.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageIndex } from "./image-index.ts";
import { LayerFetch } from "./layer-fetch.ts";
import type { Limiter } from "./limiter.ts";
import { maxJsonBytes, parseManifest } from "./manifest.ts";
import { type NamedReference, parseNamed, repositoryName } from "./reference.ts";
import type { Credentials } from "./registry/credentials.ts";
import { Registry, type RegistryOptions } from "./registry/registry.ts";

/** What layers are fetched with. */
export interface LayerSupplyParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly clock: Clock;
  readonly registry: RegistryOptions;
  readonly downloads: Limiter;
  /** For a repository; undefined: none are known. */
  readonly credentialsFor: (repository: NamedReference) => Promise<Credentials | undefined>;
}

/** Fetches layers where they are missing. */
export class LayerSupply {
  readonly #parts: LayerSupplyParts;

  constructor(parts: LayerSupplyParts) {
    this.#parts = parts;
  }

  /**
   * The image's record once its layers are in the content store, held by the lease.
   *
   * @throws conflict: nobody knows where they are; system: the registry does not give them, or not any more
   */
  async complete(lease: BlobLease, record: ImageRecord, signal: AbortSignal): Promise<ImageRecord> {
    if (record.layerSizes.length === record.diffIds.length) {
      return record;
    }
    let failure: unknown;
    for (const source of sourcesOf(record)) {
      try {
        return await this.#fetch(lease, record, source, signal);
      } catch (error) {
        signal.throwIfAborted();
        failure = systemError(
          `the layers of image ${record.id} are still at ${repositoryName(source)}, which does not give them: ${messageOf(error)}`,
          error,
        );
      }
    }
    throw failure ?? conflict(`the layers of image ${record.id} are not on this backend`);
  }

  async #fetch(
    lease: BlobLease,
    record: ImageRecord,
    source: NamedReference,
    signal: AbortSignal,
  ): Promise<ImageRecord> {
    const { content, index, configs, clock, downloads, credentialsFor } = this.#parts;
    const auth = await credentialsFor(source);
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
    const download = { registry, path: source.path, store: content, lease, clock, report, signal };
    const layers = await new LayerFetch(download, index, downloads).fetch(
      document.manifest.layers,
      configs.get(record.id),
    );
    await content.putBytes(lease, manifest.bytes, { digest: manifest.digest });
    await content.sync([manifest.digest, ...layers.map(({ digest }) => digest)]);
    const completed = {
      ...(index.get(record.id) ?? record),
      size: BigInt(layers.reduce((sum, { size }) => sum + size, 0)),
      manifestDigest: manifest.digest,
      manifestMediaType: manifest.mediaType,
      layerDigests: layers.map(({ digest }) => digest),
      layerSizes: layers.map(({ size }) => BigInt(size)),
    };
    if (index.get(record.id) !== undefined) {
      await index.commit({ put: [completed] });
    }
    return completed;
  }
}

/** Where an image was pulled from; one that was made here and taken over: where the driver runs it from. */
function sourcesOf({ digests, driverReference }: ImageRecord): NamedReference[] {
  if (digests.length > 0 || driverReference === "") {
    return digests.map(parseNamed);
  }
  return [parseNamed(driverReference)].filter(({ digest }) => digest !== undefined);
}
