/** `docker pull`: from a registry reference to an installed image. */
import type { Clock } from "../../common/clock.ts";
import { forbidden, invalid, messageOf, notFound } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { LayerUnpacking } from "../driver/images.ts";
import { downloadBlob, type DownloadContext } from "./blob-download.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { isSha256Digest } from "./digest.ts";
import { objectBytes } from "./held-documents.ts";
import { type ImageConfig, parseNewImageConfig } from "./image-config.ts";
import { imageEvent } from "./image-events.ts";
import type { ImageIndex } from "./image-index.ts";
import type { ImageInstaller } from "./image-installer.ts";
import { checkLayerCount, LayerFetch } from "./layer-fetch.ts";
import type { Limiter } from "../concurrency/limiter.ts";
import {
  checkImageMediaType,
  type Descriptor,
  type ImageManifest,
  maxJsonBytes,
  parseManifest,
} from "./manifest.ts";
import { formatPlatform, hostPlatform, platformDistance } from "./platform.ts";
import { choosePlatform } from "./platform-choice.ts";
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
import { pullError } from "./registry/registry-errors.ts";

/** A request to pull. */
export interface PullRequest {
  /** Name, name:tag or name@digest. */
  readonly reference: string;
  /** Undefined for this machine's. */
  readonly platform: Platform | undefined;
  /** Undefined for anonymous access. */
  readonly auth: Credentials | undefined;
  /**
   * True for a client that is not trusted with what is here: the driver's own credentials are not used, the registry has to
   * serve the image's configuration, an image that is known by another manifest is refused, and a name moves from one
   * image of its repository to the next alone.
   */
  readonly withoutOwnAuth?: boolean;
  /** The client's User-Agent; absent if unknown. */
  readonly client?: string;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/** The result of a pull. */
export interface PulledImage {
  readonly imageId: string;
  /** Digest of the manifest or index that the reference has at the registry. */
  readonly digest: string;
}

/** A successful pull, with the facts to report. */
export interface FinishedPull extends PulledImage {
  /** True if the reference had no image here before, or another one. */
  readonly isNewer: boolean;
  /** Warning that the image has another platform than requested; undefined if it matches. */
  readonly warning: string | undefined;
}

/** Dependencies of pulls. */
export interface PullParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly installer: ImageInstaller;
  readonly clock: Clock;
  readonly registry: RegistryOptions;
  /** Limits concurrent layer downloads from a registry across all pulls. */
  readonly downloads: Limiter;
  readonly unpacking: LayerUnpacking;
}

/** Limit for nested indexes. */
const maxDepth = 4;

/**
 * Parses and validates the reference of a pull.
 *
 * @throws invalid, forbidden
 */
export function pulledReference(text: string): NamedReference {
  const named = withDefaultTag(parseNamed(text));
  checkPulled(named);
  return named;
}

/** Rejects references that no registry can serve. @throws invalid, forbidden */
export function checkPulled(named: NamedReference): void {
  if (familiarName(named) === "scratch") {
    throw forbidden("'scratch' is a reserved name");
  }
  if (named.digest !== undefined && !isSha256Digest(named.digest)) {
    throw invalid("unsupported digest algorithm");
  }
}

/** The tags of a repository at its registry. @throws as {@link pullImage} */
export async function tagsOf(
  repository: NamedReference,
  credentials: Credentials | undefined,
  options: RegistryOptions,
  signal: AbortSignal,
): Promise<readonly string[]> {
  try {
    using registry = await Registry.connect(repository.domain, credentials, options, signal);
    return await registry.tags(repository.path, signal);
  } catch (error) {
    signal.throwIfAborted();
    throw pullError(error, repository);
  }
}

/**
 * Pulls an image under a lease.
 *
 * @throws not-found: no such repository or tag, access denied, no such platform; invalid; system: the registry's
 *   failure
 */
export async function pullImage(
  parts: PullParts,
  lease: BlobLease,
  request: PullRequest,
): Promise<FinishedPull> {
  const named = pulledReference(request.reference);
  try {
    const options = onBehalfOf(parts.registry, request.client);
    using registry = await Registry.connect(named.domain, request.auth, options, request.signal);
    return await new Pull(parts, lease, request, named, registry).run();
  } catch (error) {
    request.signal.throwIfAborted();
    throw pullError(error, named);
  }
}

/** Reports the result of a pull. */
export function reportStatus(report: ReportProgress, isNewer: boolean, reference: NamedReference): void {
  const status = isNewer ? "Downloaded newer image" : "Image is up to date";
  report({ id: "", status: `Status: ${status} for ${familiarString(reference)}` });
}

/** Reports a warning, if there is one. */
export function reportWarning(report: ReportProgress, warning: string | undefined): void {
  if (warning !== undefined) {
    report({ id: "", status: warning });
  }
}

class Pull {
  readonly #parts: PullParts;
  readonly #named: NamedReference;
  readonly #request: PullRequest;
  readonly #download: DownloadContext;
  readonly #layers: LayerFetch;

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
    const { content, clock } = parts;
    const { report, signal } = request;
    this.#download = { registry, path: named.path, store: content, lease, clock, report, signal };
    this.#layers = new LayerFetch(this.#download, parts.index, parts.downloads, (...layer) =>
      parts.installer.unpack(...layer),
    );
  }

  async run(): Promise<FinishedPull> {
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
    const warning = this.#warningOfPlatform(imageId);
    return { imageId, digest: top.digest, isNewer: before !== imageId, warning };
  }

  /** A registry may hold just one image of whatever platform: it is pulled, with a warning to the user. */
  #warningOfPlatform(imageId: string): string | undefined {
    const { platform: wanted } = this.#request;
    const offered = this.#parts.index.images.get(imageId)?.platform;
    return wanted !== undefined && offered !== undefined && platformDistance(wanted, offered) === undefined
      ? `WARNING: image with reference ${familiarString(this.#named)} was found but its platform ` +
          `(${formatPlatform(offered)}) does not match the specified platform (${formatPlatform(wanted)})`
      : undefined;
  }

  /** The image's own manifest; from an index, the entry for the platform. */
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
    const { store, lease, report } = this.#download;
    for (const { mediaType } of [manifest.config, ...manifest.layers]) {
      checkImageMediaType(mediaType);
    }
    await store.putBytes(lease, fetched.bytes, { digest: fetched.digest });
    this.#refuseHeldId(manifest.config.digest, fetched.digest);
    const config = await this.#config(manifest.config);
    this.#refuseHeldName(manifest.config.digest, config);
    checkLayerCount(manifest.layers, config);
    await this.#parts.installer.withLayers(config.diffIds, () =>
      this.#installLayers(fetched, manifest, config, topDigest),
    );
    for (const layer of this.#layers.fetched) {
      report({ id: shortId(layer), status: "Pull complete" });
    }
  }

  /** Refuses a container's pull of an image that is here by another manifest. */
  #refuseHeldId(id: string, manifestDigest: string): void {
    const known = this.#parts.index.images.get(id);
    if (
      this.#request.withoutOwnAuth === true &&
      known !== undefined &&
      known.manifestDigest !== manifestDigest
    ) {
      throw forbidden(`image ${shortId(id)} is here already, by another manifest, which is not replaced`);
    }
  }

  /** Refuses a container's pull a name that an image from elsewhere, or for another platform, has. */
  #refuseHeldName(id: string, { platform }: ImageConfig): void {
    const named = this.#named;
    const takesName = this.#request.withoutOwnAuth === true && named.digest === undefined;
    const holder = takesName ? this.#parts.index.named(named) : undefined;
    if (holder === undefined || holder.id === id) {
      return;
    }
    const wasPulled = holder.digests.some((digest) => digest.startsWith(`${repositoryName(named)}@`));
    const { os, architecture } = holder.platform ?? platform;
    if (!wasPulled || os !== platform.os || architecture !== platform.architecture) {
      throw forbidden(`${familiarString(named)} is another image here, which is not replaced`);
    }
  }

  async #installLayers(
    fetched: FetchedManifest,
    manifest: ImageManifest,
    config: ImageConfig,
    topDigest: string,
  ): Promise<void> {
    const { signal } = this.#download;
    const id = manifest.config.digest;
    const known = this.#parts.index.images.get(id);
    const isCompared = (known?.layerSizes.length ?? 0) === manifest.layers.length;
    // Nobody knows yet which of two manifests has the layers that the configuration names.
    const isDisputed = known !== undefined && known.manifestDigest !== fetched.digest;
    const fetchLayers = isCompared
      ? !(await this.#parts.content.hasAll(known?.layerDigests ?? [])) // A check has put damaged ones aside.
      : this.#parts.unpacking.kind === "driver" || isDisputed;
    const layers = fetchLayers
      ? await this.#layers.fetch(manifest.layers, config)
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
          ...(this.#request.withoutOwnAuth === true
            ? {}
            : { pulledFrom: `${repositoryName(this.#named)}@${fetched.digest}` }),
          admit: () => {
            this.#refuseHeldId(id, fetched.digest);
            this.#refuseHeldName(id, config);
          },
          events: [imageEvent("pull", familiarString(this.#named), familiarName(this.#named), config)],
        },
      ],
      signal,
    );
  }

  async #config(descriptor: Descriptor): Promise<ImageConfig> {
    const { registry, store, lease } = this.#download;
    registry.documents.take(Math.min(descriptor.size, maxJsonBytes));
    try {
      if (descriptor.size > maxJsonBytes) {
        throw invalid(`it has ${descriptor.size} bytes, at most ${maxJsonBytes} are allowed`);
      }
      lease.hold(descriptor.digest);
      const isAsked = this.#request.withoutOwnAuth === true; // Or who knows the ID alone would have it.
      if (isAsked || (await store.find(descriptor.digest)) === undefined) {
        await downloadBlob(descriptor, { ...this.#download, report: () => {} });
      }
    } catch (error) {
      this.#request.signal.throwIfAborted();
      throw invalid(`error pulling image configuration: ${messageOf(error)}`, error);
    }
    const bytes = await store.read(descriptor.digest, maxJsonBytes);
    registry.documents.take(objectBytes(bytes));
    return parseNewImageConfig(bytes);
  }
}
