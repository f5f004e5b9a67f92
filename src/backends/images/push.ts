/** `docker push`: sends an image with its layers to a registry, under one tag. */
import type { Clock } from "../../common/clock.ts";
import { systemError } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { throttle } from "./blob-download.ts";
import { compressedLayer } from "./compressed-layer.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import { imageEvent } from "./image-events.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageIndex } from "./image-index.ts";
import { renderManifest } from "./image-manifest-writer.ts";
import { compressionOfBlob, type LayerBlob, layerBlobs } from "./layer-blobs.ts";
import { Limiter } from "../concurrency/limiter.ts";
import { blobsOf } from "../state/image-table.ts";
import { maxJsonBytes, mediaTypes } from "./manifest.ts";
import type { ReportProgress } from "./progress.ts";
import {
  canonicalString,
  familiarName,
  familiarString,
  type NamedReference,
  parseNamed,
  repositoryName,
  withDefaultTag,
  withDigest,
} from "./reference.ts";
import type { Credentials } from "./registry/credentials.ts";
import { type FetchedManifest, onBehalfOf, Registry, type RegistryOptions } from "./registry/registry.ts";
import { pushError } from "./registry/registry-errors.ts";
import { withRetries } from "./registry-retries.ts";

/** How many layers of a push are compressed at a time. */
const parallelCompressions = 3;

/** A request to push. */
export interface PushRequest {
  /** name or name:tag. */
  readonly reference: string;
  /** True for the first push to its repository in this request, which is announced to the user. */
  readonly announce: boolean;
  /** The platform that the image must have; undefined for any. */
  readonly platform: Platform | undefined;
  /** Undefined for anonymous access. */
  readonly auth: Credentials | undefined;
  /** The client's User-Agent; absent if unknown. */
  readonly client?: string;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/** The result of a push. */
export interface PushedImage {
  readonly tag: string;
  /** Digest of the manifest. */
  readonly digest: string;
  readonly size: bigint;
}

/** Dependencies of pushes. */
export interface PushParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly clock: Clock;
  readonly registry: RegistryOptions;
  /** Limits concurrent layer uploads to a registry across all pushes. */
  readonly uploads: Limiter;
}

/**
 * Pushes an image under a lease.
 *
 * @throws invalid: the name; system: no such image, or the registry's refusal in its words
 */
export async function pushImage(
  parts: PushParts,
  lease: BlobLease,
  request: PushRequest,
): Promise<PushedImage> {
  const named = withDefaultTag(parseNamed(request.reference));
  if (request.announce) {
    request.report({ id: "", status: `The push refers to repository [${repositoryName(named)}]` });
  }
  const record = parts.index.named(named);
  if (record === undefined) {
    throw systemError(
      parts.index.hasTags(named)
        ? `tag does not exist: ${familiarString(named)}`
        : `An image does not exist locally with the tag: ${familiarName(named)}`,
    );
  }
  lease.hold(...blobsOf(record));
  try {
    const options = onBehalfOf(parts.registry, request.client);
    using registry = await Registry.connect(named.domain, request.auth, options, request.signal);
    return await new Push(parts, lease, request, named, record, registry).run();
  } catch (error) {
    request.signal.throwIfAborted();
    throw pushError(error);
  }
}

class Push {
  readonly #parts: PushParts;
  readonly #lease: BlobLease;
  readonly #request: PushRequest;
  readonly #named: NamedReference;
  readonly #record: ImageRecord;
  readonly #registry: Registry;
  /** Turns to compress, of this push alone: an upload's would be taken from all who push to the registry. */
  readonly #compressions = new Limiter(parallelCompressions);
  /** Compressed blobs of the image's layers here, once a layer needs one. */
  #otherBlobs: ReadonlyMap<string, ReadonlySet<string>> | undefined;
  /** Syncs in progress, of blobs that the image will need. */
  readonly #syncs: Promise<void>[] = [];

  constructor(
    parts: PushParts,
    lease: BlobLease,
    request: PushRequest,
    named: NamedReference,
    record: ImageRecord,
    registry: Registry,
  ) {
    this.#parts = parts;
    this.#lease = lease;
    this.#request = request;
    this.#named = named;
    this.#record = record;
    this.#registry = registry;
  }

  async run(): Promise<PushedImage> {
    const { report, signal } = this.#request;
    const { content } = this.#parts;
    const layers = await layerBlobs(content, this.#record);
    const unique = [...new Map(layers.map((layer) => [layer.diffId, layer])).values()];
    for (const { diffId } of unique.toReversed()) {
      report({ id: shortId(diffId), status: "Preparing" });
    }
    const pushed = await this.#pushLayers(unique);
    const config = await content.find(this.#record.id);
    if (config === undefined) {
      throw systemError(`the configuration of image ${this.#record.id} is missing from the content store`);
    }
    if (!(await this.#registry.hasBlob(this.#named.path, config.digest, signal))) {
      await this.#upload("", config, undefined, () => undefined, signal);
    }
    const sent = layers.map((layer) => pushed.get(layer.diffId) ?? layer);
    const manifest = await this.#manifest(config, layers, sent);
    const tag = this.#named.tag ?? "";
    await this.#registry.putManifest(this.#named.path, tag, manifest, signal);
    const size = manifest.bytes.length;
    report({ id: "", status: `${tag}: digest: ${manifest.digest} size: ${size}` });
    await this.#remember(manifest, sent);
    return { tag, digest: manifest.digest, size: BigInt(size) };
  }

  /** Pushes all layers concurrently, up to the limit; the first failure cancels the others. */
  async #pushLayers(layers: readonly LayerBlob[]): Promise<ReadonlyMap<string, LayerBlob>> {
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#request.signal, failed.signal]);
    const pushing = layers.toReversed().map((layer) => this.#pushLayer(layer, signal));
    try {
      return new Map((await Promise.all(pushing)).map((layer) => [layer.diffId, layer]));
    } catch (error) {
      failed.abort();
      await Promise.allSettled(pushing);
      throw error;
    }
  }

  async #pushLayer(layer: LayerBlob, signal: AbortSignal): Promise<LayerBlob> {
    const { report } = this.#request;
    const { uploads } = this.#parts;
    const id = shortId(layer.diffId);
    const sent = layer.compression === undefined ? await this.#compressed(layer, signal) : layer;
    using _turn = await uploads.acquire(this.#registry.url.host, signal, () =>
      report({ id, status: "Waiting" }),
    );
    if (await this.#registry.hasBlob(this.#named.path, sent.blob.digest, signal)) {
      report({ id, status: "Layer already exists" });
      return sent;
    }
    const total = sent.blob.size;
    const throttled = throttle(report);
    const from = this.#repositoryWith(layer.diffId);
    const counted = (current: number): void => throttled({ id, status: "Pushing", current, total });
    const mounted = await this.#upload(id, sent.blob, from, counted, signal);
    report({ id, status: mounted ? `Mounted from ${from}` : "Pushed" });
    return sent;
  }

  /** Sends a blob; returns true if the registry mounted it from another repository instead. */
  #upload(
    id: string,
    blob: StoredBlob,
    from: string | undefined,
    counted: (current: number) => void,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { clock, content } = this.#parts;
    const { report } = this.#request;
    async function* open(): AsyncGenerator<Uint8Array> {
      let current = 0;
      for await (const chunk of content.stream(blob.digest, signal)) {
        current += chunk.length;
        counted(current);
        yield chunk;
      }
    }
    const body = { length: blob.size, open };
    return withRetries(id, { clock, report, signal }, () =>
      this.#registry.uploadBlob(this.#named.path, blob.digest, body, from, signal),
    );
  }

  /**
   * Another repository at the registry that an image with this layer was pulled from or pushed to. If its copy is
   * compressed differently, it is not used.
   */
  #repositoryWith(diffId: string): string | undefined {
    const { domain } = this.#named;
    const own = `${repositoryName(this.#named)}@`;
    for (const { digests } of this.#parts.index.images.withLayer(diffId)) {
      const other = digests.find((each) => each.startsWith(`${domain}/`) && !each.startsWith(own));
      if (other !== undefined) {
        return parseNamed(other).path;
      }
    }
    return undefined;
  }

  /** The image's own manifest, unless its layers are sent in another form than stored here. */
  async #manifest(
    config: StoredBlob,
    layers: readonly LayerBlob[],
    sent: readonly LayerBlob[],
  ): Promise<FetchedManifest> {
    const { manifestDigest, manifestMediaType } = this.#record;
    if (
      manifestDigest !== "" &&
      sent.every((layer, index) => layer.blob.digest === layers[index]?.blob.digest)
    ) {
      const bytes = await this.#parts.content.read(manifestDigest, maxJsonBytes);
      return { bytes, digest: manifestDigest, mediaType: manifestMediaType };
    }
    const bytes = Buffer.from(renderManifest(config, sent));
    const { digest } = await this.#parts.content.putBytes(this.#lease, bytes);
    this.#sync(digest);
    return { bytes, digest, mediaType: mediaTypes.ociManifest };
  }

  /**
   * A layer in the form to send: compressed, as registries expect. If another image has a compressed blob of it, that
   * is used.
   */
  async #compressed(layer: LayerBlob, signal: AbortSignal): Promise<LayerBlob> {
    const { content } = this.#parts;
    this.#otherBlobs ??= this.#findOtherBlobs();
    for (const digest of this.#otherBlobs.get(layer.diffId) ?? []) {
      this.#lease.hold(digest);
      const blob = await content.find(digest);
      const compression = blob === undefined ? undefined : await compressionOfBlob(content, digest);
      if (blob !== undefined && compression !== undefined) {
        this.#sync(digest);
        return { ...layer, blob, compression };
      }
    }
    using _turn = await this.#compressions.acquire("", signal);
    const source = content.stream(layer.blob.digest, signal);
    const { compression } = this.#parts.registry;
    const blob = await content.put(this.#lease, compressedLayer(source, compression));
    this.#sync(blob.digest);
    return { ...layer, blob, compression };
  }

  /** The blobs of the image's layers in images here, except the tars themselves, by diff ID; one pass for all layers. */
  #findOtherBlobs(): ReadonlyMap<string, ReadonlySet<string>> {
    const blobs = new Map(this.#record.diffIds.map((diffId) => [diffId, new Set<string>()]));
    for (const { diffIds, layerDigests, layerSizes } of this.#parts.index.images.values()) {
      for (const [at, diffId] of layerSizes.length > 0 ? diffIds.entries() : []) {
        const digest = layerDigests[at];
        if (digest !== undefined && digest !== diffId) {
          blobs.get(diffId)?.add(digest);
        }
      }
    }
    return blobs;
  }

  /** Starts to sync a blob, which takes long, while it is sent. */
  #sync(digest: string): void {
    const synced = this.#parts.content.sync([digest]);
    synced.catch(() => undefined); // A failure is thrown at the end.
    this.#syncs.push(synced);
  }

  /**
   * Records the layers and the manifest that the registry now has, and their digest reference: another push compresses
   * nothing. The lease removes what they replace.
   */
  async #remember({ digest, mediaType }: FetchedManifest, sent: readonly LayerBlob[]): Promise<void> {
    const { index, configs } = this.#parts;
    await Promise.all(this.#syncs);
    const record = index.images.get(this.#record.id);
    const named = familiarString(this.#named);
    const event = imageEvent("push", named, familiarName(this.#named), configs.find(this.#record.id));
    const reference = canonicalString(withDigest(this.#named, digest));
    const asSent = {
      manifestDigest: digest,
      manifestMediaType: mediaType,
      layerDigests: sent.map(({ blob }) => blob.digest),
    };
    const isSame = record?.manifestDigest === this.#record.manifestDigest;
    await index.commit({
      put:
        record === undefined
          ? []
          : index.withNames({ ...record, ...(isSame ? asSent : {}) }, [], [reference]),
      events: [event],
    });
  }
}
