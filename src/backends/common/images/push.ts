/** `docker push`: an image with its layers to a registry, under one tag. */
import { createGzip } from "node:zlib";
import { Readable } from "node:stream";

import type { Clock } from "../../../common/clock.ts";
import { systemError } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import type { Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { pause, throttle } from "./blob-download.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import { sha256Of } from "./digest.ts";
import { imageEvent } from "./image-events.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageIndex } from "./image-index.ts";
import { renderManifest } from "./image-manifest-writer.ts";
import { type LayerBlob, layerBlobs } from "./layer-blobs.ts";
import type { Limiter } from "./limiter.ts";
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
import { type FetchedManifest, Registry, type RegistryOptions } from "./registry/registry.ts";
import { isWorthRetrying, pushError } from "./registry/registry-errors.ts";

/** A push to be done. */
export interface PushRequest {
  /** name or name:tag. */
  readonly reference: string;
  /** It is the first of its repository in this request, which the user is told. */
  readonly announce: boolean;
  /** What the image must have, which has one alone; undefined: any. */
  readonly platform: Platform | undefined;
  /** Undefined: anonymous. */
  readonly auth: Credentials | undefined;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/** What a push ends with. */
export interface PushedImage {
  readonly tag: string;
  /** Of the manifest. */
  readonly digest: string;
  readonly size: bigint;
}

/** What pushes work with. */
export interface PushParts {
  readonly store: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly clock: Clock;
  readonly registry: RegistryOptions;
  /** Layers on their way at a time, over all pushes. */
  readonly uploads: Limiter;
}

const maxAttempts = 5;
const firstPauseSeconds = 1;

/**
 * Pushes an image under a lease.
 *
 * @throws invalid: the name; system: there is no such image, or the registry's refusal in its words
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
      parts.index.taggedAs(named).length === 0
        ? `An image does not exist locally with the tag: ${familiarName(named)}`
        : `tag does not exist: ${familiarString(named)}`,
    );
  }
  try {
    using registry = await Registry.connect(named.domain, request.auth, parts.registry, request.signal);
    return await new Push(parts, lease, request, named, record, registry).run();
  } catch (error) {
    request.signal.throwIfAborted();
    throw pushError(error);
  }
}

/** What the reference of a push means, one tag each: a name alone all of its tags. Throws `invalid`. */
export function referencesToPush(index: ImageIndex, reference: string): string[] {
  const named = parseNamed(reference);
  const isNameAlone = named.tag === undefined && named.digest === undefined;
  const tagged = isNameAlone ? index.taggedAs(named).map(({ name }) => name) : [];
  return tagged.length === 0 ? [reference] : tagged;
}

class Push {
  readonly #parts: PushParts;
  readonly #lease: BlobLease;
  readonly #request: PushRequest;
  readonly #named: NamedReference;
  readonly #record: ImageRecord;
  readonly #registry: Registry;

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
    const { store } = this.#parts;
    const layers = await layerBlobs(store, this.#lease, this.#record);
    this.#lease.hold(this.#record.id);
    this.#lease.hold(this.#record.manifestDigest);
    const unique = [...new Map(layers.map((layer) => [layer.diffId, layer])).values()];
    for (const { diffId } of unique.toReversed()) {
      report({ id: shortId(diffId), status: "Preparing" });
    }
    const pushed = await this.#pushLayers(unique);
    const config = await store.find(this.#record.id);
    if (config === undefined) {
      throw systemError(`the configuration of image ${this.#record.id} is missing from the content store`);
    }
    await this.#upload(config, undefined, () => undefined, signal);
    const manifest = await this.#manifest(config, layers, pushed);
    const tag = this.#named.tag ?? "";
    await this.#registry.putManifest(this.#named.path, tag, manifest, signal);
    const size = manifest.bytes.length;
    report({ id: "", status: `${tag}: digest: ${manifest.digest} size: ${size}` });
    await this.#remember(manifest.digest);
    return { tag, digest: manifest.digest, size: BigInt(size) };
  }

  /** All layers at once, as many as the limit lets through; the first failure ends the others. */
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
    const { uploads, store } = this.#parts;
    const id = shortId(layer.diffId);
    if (uploads.isBusy) {
      report({ id, status: "Waiting" });
    }
    using _turn = await uploads.acquire(signal);
    const sent =
      layer.compression === undefined ? await compressed(store, this.#lease, layer, signal) : layer;
    if (await this.#registry.hasBlob(this.#named.path, sent.blob.digest, signal)) {
      report({ id, status: "Layer already exists" });
      return sent;
    }
    const total = sent.blob.size;
    const throttled = throttle(report);
    const from = this.#repositoryWith(sent.blob.digest);
    const counted = (current: number): void => throttled({ id, status: "Pushing", current, total });
    const mounted = await this.#retried(id, signal, () => this.#uploadOnce(sent.blob, from, counted, signal));
    report({ id, status: mounted ? `Mounted from ${from}` : "Pushed" });
    return sent;
  }

  async #upload(
    blob: StoredBlob,
    from: string | undefined,
    counted: (current: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    if (!(await this.#registry.hasBlob(this.#named.path, blob.digest, signal))) {
      await this.#retried("", signal, () => this.#uploadOnce(blob, from, counted, signal));
    }
  }

  #uploadOnce(
    blob: StoredBlob,
    from: string | undefined,
    counted: (current: number) => void,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { store } = this.#parts;
    async function* open(): AsyncGenerator<Uint8Array> {
      let current = 0;
      for await (const chunk of store.stream(blob.digest, signal)) {
        current += chunk.length;
        counted(current);
        yield chunk;
      }
    }
    return this.#registry.uploadBlob(
      this.#named.path,
      blob.digest,
      { length: blob.size, open },
      from,
      signal,
    );
  }

  async #retried<T>(id: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { report } = this.#request;
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (attempt === maxAttempts || !isWorthRetrying(error)) {
          throw error;
        }
        await pause(firstPauseSeconds * 2 ** (attempt - 1), id, {
          clock: this.#parts.clock,
          report,
          signal,
        });
      }
    }
  }

  /** Another repository of the registry that an image with this blob came from, or went to. */
  #repositoryWith(digest: string): string | undefined {
    const { domain, path } = this.#named;
    return this.#parts.index
      .records()
      .filter((record) => record.layerDigests.includes(digest))
      .flatMap((record) => record.digests.map(parseNamed))
      .find((reference) => reference.domain === domain && reference.path !== path)?.path;
  }

  /** The image's own manifest, unless its layers go out in another form than they have here. */
  async #manifest(
    config: StoredBlob,
    layers: readonly LayerBlob[],
    pushed: ReadonlyMap<string, LayerBlob>,
  ): Promise<FetchedManifest> {
    const sent = layers.map((layer) => pushed.get(layer.diffId) ?? layer);
    const { manifestDigest, manifestMediaType } = this.#record;
    if (
      manifestDigest !== "" &&
      sent.every((layer, index) => layer.blob.digest === layers[index]?.blob.digest)
    ) {
      const bytes = await this.#parts.store.read(manifestDigest, maxJsonBytes);
      return { bytes, digest: manifestDigest, mediaType: manifestMediaType };
    }
    const bytes = Buffer.from(renderManifest(config, sent));
    return { bytes, digest: sha256Of(bytes), mediaType: mediaTypes.ociManifest };
  }

  /** The image can be named by the digest that it now has at the registry. */
  async #remember(digest: string): Promise<void> {
    const { index, configs } = this.#parts;
    const record = index.get(this.#record.id);
    const named = familiarString(this.#named);
    const event = imageEvent("push", named, familiarName(this.#named), configs.find(this.#record.id));
    const reference = canonicalString(withDigest(this.#named, digest));
    await index.commit({
      put: record === undefined ? [] : index.withNames(record, [], [reference]),
      events: [event],
    });
  }
}

/** A layer as it is sent: nobody wants uncompressed layers at a registry. */
async function compressed(
  store: ContentStore,
  lease: BlobLease,
  layer: LayerBlob,
  signal: AbortSignal,
): Promise<LayerBlob> {
  const source = Readable.from(store.stream(layer.blob.digest, signal), { objectMode: false });
  const gzip = createGzip();
  source.once("error", (error) => gzip.destroy(error));
  try {
    const blob = await store.put(lease, source.pipe(gzip));
    return { ...layer, blob, compression: "gzip" };
  } finally {
    source.destroy();
    gzip.destroy();
  }
}
