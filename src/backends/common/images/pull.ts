/** `docker pull`: from a reference at a registry to an installed image. */
import type { Clock } from "../../../common/clock.ts";
import { forbidden, invalid, messageOf, notFound } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import type { Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { downloadBlob, type DownloadContext, throttle } from "./blob-download.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import { isSha256Digest } from "./digest.ts";
import { type ImageConfig, parseImageConfig } from "./image-config.ts";
import { imageEvent } from "./image-events.ts";
import type { ImageIndex } from "./image-index.ts";
import type { ImageInstaller, InstalledLayer } from "./image-installer.ts";
import { measureLayer } from "./layer-content.ts";
import type { Limiter } from "./limiter.ts";
import {
  checkImageMediaType,
  type Descriptor,
  type ImageManifest,
  maxJsonBytes,
  parseManifest,
} from "./manifest.ts";
import { formatPlatform, hostPlatform } from "./platform.ts";
import { choosePlatform } from "./platform-choice.ts";
import type { ReportProgress } from "./progress.ts";
import {
  canonicalString,
  familiarName,
  familiarString,
  type NamedReference,
  parseNamed,
  withDefaultTag,
  withDigest,
} from "./reference.ts";
import type { Credentials } from "./registry/credentials.ts";
import { type FetchedManifest, Registry, type RegistryOptions } from "./registry/registry.ts";
import { pullError } from "./registry/registry-errors.ts";

/** A pull to be done. */
export interface PullRequest {
  /** Name, name:tag or name@digest. */
  readonly reference: string;
  /** Undefined: this machine's. */
  readonly platform: Platform | undefined;
  /** Undefined: anonymous. */
  readonly auth: Credentials | undefined;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/** What a pull ends with. */
export interface PulledImage {
  readonly imageId: string;
  /** Of what the reference names at the registry: a manifest or an index. */
  readonly digest: string;
}

/** What pulls work with. */
export interface PullParts {
  readonly store: ContentStore;
  readonly index: ImageIndex;
  readonly installer: ImageInstaller;
  readonly clock: Clock;
  readonly registry: RegistryOptions;
  /** Layers on their way at a time, over all pulls. */
  readonly downloads: Limiter;
  /** Whether layers are fetched, or manifest and configuration suffice. */
  readonly needsLayers: boolean;
}

/** Indices within indices that are followed. */
const maxDepth = 4;

/**
 * The reference of a pull, checked.
 *
 * @throws invalid, forbidden
 */
export function pulledReference(text: string): NamedReference {
  const named = withDefaultTag(parseNamed(text));
  if (familiarName(named) === "scratch") {
    throw forbidden("'scratch' is a reserved name");
  }
  if (named.digest !== undefined && !isSha256Digest(named.digest)) {
    throw invalid("unsupported digest algorithm");
  }
  return named;
}

/**
 * Pulls an image under a lease.
 *
 * @throws not-found: no such repository or tag, access denied, no such platform; invalid; system: the registry's failure
 */
export async function pullImage(
  parts: PullParts,
  lease: BlobLease,
  request: PullRequest,
): Promise<PulledImage> {
  const named = pulledReference(request.reference);
  try {
    using registry = await Registry.connect(named.domain, request.auth, parts.registry, request.signal);
    return await new Pull(parts, lease, request, named, registry).run();
  } catch (error) {
    request.signal.throwIfAborted();
    throw pullError(error, named);
  }
}

class Pull {
  readonly #parts: PullParts;
  readonly #named: NamedReference;
  readonly #request: PullRequest;
  readonly #download: DownloadContext;
  /** Short IDs of the layers that were not there. */
  readonly #fetched = new Set<string>();

  constructor(
    parts: PullParts,
    lease: BlobLease,
    request: PullRequest,
    named: NamedReference,
    registry: Registry,
  ) {
    this.#parts = parts;
    this.#named = named;
    this.#request = request;
    const { store, clock } = parts;
    const { report, signal } = request;
    this.#download = { registry, path: named.path, store, lease, clock, report, signal };
  }

  async run(): Promise<PulledImage> {
    const { report, signal } = this.#request;
    const { registry, path } = this.#download;
    const wanted = this.#named.digest ?? this.#named.tag ?? "";
    const top = await registry.manifest(path, wanted, signal);
    report({ id: wanted, status: `Pulling from ${path}` });
    const chosen = await this.#choose(top, maxDepth);
    const before = this.#parts.index.named(this.#named)?.id;
    const imageId = chosen.manifest.config.digest;
    await this.#install(chosen.fetched, chosen.manifest, top.digest);
    report({ id: "", status: `Digest: ${top.digest}` });
    const name = familiarString(this.#named);
    const isNew = before !== imageId;
    report({
      id: "",
      status: `Status: ${isNew ? "Downloaded newer image" : "Image is up to date"} for ${name}`,
    });
    return { imageId, digest: top.digest };
  }

  /** The image's own manifest: of an index the entry for the platform. */
  async #choose(
    fetched: FetchedManifest,
    depth: number,
  ): Promise<{ readonly fetched: FetchedManifest; readonly manifest: ImageManifest }> {
    const document = parseManifest(fetched.bytes, fetched.mediaType);
    if (document.kind === "manifest") {
      return { fetched: { ...fetched, mediaType: document.mediaType }, manifest: document.manifest };
    }
    const platform = this.#request.platform ?? hostPlatform();
    const best = choosePlatform(document.index.manifests, platform);
    if (best === undefined || depth === 0) {
      throw notFound(`no matching manifest for ${formatPlatform(platform)} in the manifest list entries`);
    }
    const { registry, path, signal } = this.#download;
    return await this.#choose(await registry.manifest(path, best.digest, signal), depth - 1);
  }

  async #install(fetched: FetchedManifest, manifest: ImageManifest, topDigest: string): Promise<void> {
    const { store, lease, report, signal } = this.#download;
    for (const { mediaType } of [manifest.config, ...manifest.layers]) {
      checkImageMediaType(mediaType);
    }
    await store.putBytes(lease, fetched.bytes, { digest: fetched.digest });
    const config = await this.#config(manifest.config);
    if (config.diffIds.length !== manifest.layers.length) {
      throw layersMismatch();
    }
    const id = manifest.config.digest;
    const isKnown = (this.#parts.index.get(id)?.layerSizes.length ?? 0) === manifest.layers.length;
    const fetchLayers = this.#parts.needsLayers && !isKnown;
    const layers = fetchLayers
      ? await this.#layers(manifest.layers, config)
      : manifest.layers.map(({ digest, size }, index) => ({
          diffId: config.diffIds[index] ?? "",
          digest,
          size,
        }));
    await this.#parts.installer.install(
      [
        {
          id,
          config,
          manifestDigest: fetched.digest,
          manifestMediaType: fetched.mediaType,
          layers,
          hasLayers: fetchLayers,
          names: this.#named.digest === undefined ? [canonicalString(this.#named)] : [],
          digests: [canonicalString(withDigest(this.#named, topDigest))],
          events: [imageEvent("pull", familiarString(this.#named), familiarName(this.#named), config)],
        },
      ],
      signal,
    );
    for (const layer of this.#fetched) {
      report({ id: layer, status: "Pull complete" });
    }
  }

  async #config(descriptor: Descriptor): Promise<ImageConfig> {
    const { store, lease } = this.#download;
    try {
      if (descriptor.size > maxJsonBytes) {
        throw invalid(`it has ${descriptor.size} bytes, at most ${maxJsonBytes} are allowed`);
      }
      lease.hold(descriptor.digest);
      if ((await store.find(descriptor.digest)) === undefined) {
        await downloadBlob(descriptor, { ...this.#download, report: () => {} });
      }
    } catch (error) {
      this.#request.signal.throwIfAborted();
      throw invalid(`error pulling image configuration: ${messageOf(error)}`, error);
    }
    return parseImageConfig(await store.read(descriptor.digest, maxJsonBytes));
  }

  /** Fetches all layers, several at a time; a layer that occurs twice is fetched once. */
  async #layers(descriptors: readonly Descriptor[], config: ImageConfig): Promise<InstalledLayer[]> {
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#request.signal, failed.signal]);
    const layers = new Map<string, Promise<InstalledLayer>>();
    for (const descriptor of descriptors) {
      if (!layers.has(descriptor.digest)) {
        const layer = this.#layer(descriptor, signal);
        // The first failure ends the others; all are waited for, so that none writes after the lease has ended.
        layer.catch((error: unknown) => failed.abort(error));
        layers.set(descriptor.digest, layer);
      }
    }
    await Promise.allSettled(layers.values());
    this.#request.signal.throwIfAborted();
    failed.signal.throwIfAborted();
    const fetched = await Promise.all(descriptors.map(({ digest }) => layers.get(digest)));
    return fetched.map((layer, index) => {
      if (layer === undefined || layer.diffId !== config.diffIds[index]) {
        throw layersMismatch();
      }
      return layer;
    });
  }

  async #layer(descriptor: Descriptor, signal: AbortSignal): Promise<InstalledLayer> {
    const { store, lease, report } = this.#download;
    const id = shortId(descriptor.digest);
    lease.hold(descriptor.digest);
    const existing = await store.find(descriptor.digest);
    if (existing !== undefined) {
      report({ id, status: "Already exists" });
      return this.#knownLayer(descriptor.digest) ?? (await this.#measure(existing, () => {}, signal));
    }
    this.#fetched.add(id);
    report({ id, status: "Pulling fs layer" });
    if (this.#parts.downloads.isBusy) {
      report({ id, status: "Waiting" });
    }
    let blob: StoredBlob;
    {
      using _turn = await this.#parts.downloads.acquire(signal);
      blob = await downloadBlob(descriptor, { ...this.#download, signal });
    }
    return await this.#measure(blob, throttle(report), signal);
  }

  /** Unpacks the layer in memory to learn what it is: its diff ID and size. */
  async #measure(blob: StoredBlob, report: ReportProgress, signal: AbortSignal): Promise<InstalledLayer> {
    const { store } = this.#download;
    const id = shortId(blob.digest);
    async function* counted(): AsyncGenerator<Uint8Array> {
      let current = 0;
      for await (const chunk of store.stream(blob.digest, signal)) {
        current += chunk.length;
        report({ id, status: "Extracting", current, total: blob.size });
        yield chunk;
      }
    }
    const { diffId, size } = await measureLayer(blob, counted());
    return { diffId, digest: blob.digest, size };
  }

  /** What another image's record says of a layer. */
  #knownLayer(digest: string): InstalledLayer | undefined {
    for (const record of this.#parts.index.records()) {
      const at = record.layerDigests.indexOf(digest);
      const diffId = record.diffIds[at];
      const size = record.layerSizes[at];
      if (diffId !== undefined && size !== undefined) {
        return { diffId, digest, size: Number(size) };
      }
    }
    return undefined;
  }
}

function layersMismatch(): Error {
  return invalid("layers from manifest don't match image configuration");
}
