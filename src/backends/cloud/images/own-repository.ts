/** The configured repository, to which this backend pushes its own images for tasks. */
import { createReadStream } from "node:fs";
import { mkdir, readFile, rm, stat } from "node:fs/promises";

import { ignoring, invalid, type SockerlessError, systemError } from "../../../common/errors.ts";
import type { RegistryAuth } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { shortId } from "../../../common/ids.ts";
import { hexOf, sha256Of } from "../../images/digest.ts";
import type { LayerCompression } from "../../images/compressed-layer.ts";
import { renderManifest } from "../../images/image-manifest-writer.ts";
import { maxJsonBytes, mediaTypes } from "../../images/manifest.ts";
import { type NamedReference, parseNamed, repositoryName } from "../../images/reference.ts";
import { type FetchedManifest, Registry, type RegistryOptions } from "../../images/registry/registry.ts";
import { pushError, RegistryRefusal } from "../../images/registry/registry-errors.ts";
import { type LayerFile, layerFile } from "./layer-file.ts";

/** Credentials that the cloud issues for its registries, by host. */
export interface RepositoryCredentials {
  /** @throws CloudError */
  get(domain: string): Promise<RegistryAuth>;
  /** Drops the last ones, as the registry refuses them. */
  forget(domain: string): void;
}

/** Tags in a repository, by the cloud's own API. Every call throws CloudError. */
export interface RepositoryTags {
  /** @param path the repository's path in its registry */
  list(path: string): Promise<readonly string[]>;
  /** Removes a tag, and the image with its last one; no error if it is missing. */
  remove(path: string, tag: string): Promise<void>;
}

/** Dependencies and settings of the repository. */
export interface OwnRepositoryOptions {
  /** `registry.example.com/sockerless`. */
  readonly uri: string;
  /** The setting that names it, for users: `<section>.<key>`. */
  readonly setting: string;
  /** Names of the cloud's permissions to look for a layer and to push, for refusals without a message. */
  readonly rights: { readonly look: string; readonly push?: string };
  readonly credentials: RepositoryCredentials;
  readonly tags: RepositoryTags;
  readonly registry: RegistryOptions;
  /** Directory for temporary files only. */
  readonly workDirectory: string;
  /** This instance's name, as others may keep the same images in the same repository. */
  readonly instance: string;
}

const ownTag = /^image-([0-9a-f]{64})-/;
/** Maximum number of concurrent layer uploads. */
const parallelUploads = 3;

/** Pushes images to one repository, by digest, and tagged so that lifecycle rules for untagged images spare them. */
export class OwnRepository {
  readonly #options: OwnRepositoryOptions;
  readonly #named: NamedReference;

  /** @throws invalid: no repository is configured */
  constructor(options: OwnRepositoryOptions) {
    this.#options = options;
    this.#named = parseNamed(options.uri);
    if (this.#named.tag !== undefined || this.#named.digest !== undefined) {
      throw invalid(`configuration: ${options.setting} must be a repository without tag, not ${options.uri}`);
    }
  }

  /** The registry's host. */
  get domain(): string {
    return this.#named.domain;
  }

  /** The repository's path in its registry. */
  get path(): string {
    return this.#named.path;
  }

  /** Reference by digest, for tasks to pull an image from there. */
  reference(digest: string): string {
    return `${repositoryName(this.#named)}@${digest}`;
  }

  /** Whether a reference from {@link putImage} is in this repository. */
  holds(reference: string): boolean {
    return reference.startsWith(`${repositoryName(this.#named)}@`);
  }

  /**
   * Pushes an image unless it exists there.
   *
   * @param blobPath returns the path of a blob's file
   * @returns the reference for tasks: `repository@sha256:…`
   * @throws system: the registry's refusal in its words; CloudError
   */
  async putImage(
    image: ImageRecord,
    blobPath: (digest: string) => string,
    signal: AbortSignal,
  ): Promise<string> {
    return await this.connected(signal, async (registry) => {
      const tag = this.#tagOf(image);
      const digest =
        (await this.digestOf(registry, tag, signal)) ??
        (await this.#upload(registry, image, tag, blobPath, signal));
      return this.reference(digest);
    });
  }

  /**
   * Pushes an image of one layer under a tag, replacing the tag's previous image. The layer is gzip, which manifests of every kind
   * can have.
   *
   * @returns `repository@sha256:…`, and whether it was not there before
   * @throws as {@link putImage}
   */
  async putProgram(
    tag: string,
    layer: { readonly path: string; readonly digest: string },
    config: Uint8Array,
    signal: AbortSignal,
  ): Promise<{ readonly reference: string; readonly isNew: boolean }> {
    return await this.connected(signal, async (registry) => {
      const known = await this.digestOf(registry, tag, signal);
      const configDigest = sha256Of(config);
      await this.#uploadBytes(registry, config, signal);
      const sent = await this.#uploadLayer(registry, layer, [], "gzip", signal);
      const manifest = manifestOf({ digest: configDigest, size: config.length }, [sent]);
      const isNew = manifest.digest !== known;
      if (isNew) {
        await registry.putManifest(this.#named.path, tag, manifest, signal);
      }
      return { reference: this.reference(manifest.digest), isNew };
    });
  }

  /** Removes an unused image; no error if it is missing. @throws CloudError */
  async removeImage(image: ImageRecord): Promise<void> {
    await this.removeTag(this.#tagOf(image));
  }

  /** The tag of an image, derived from its ID, so that its content never changes. */
  #tagOf(image: Pick<ImageRecord, "id">): string {
    return `image-${hexOf(image.id)}-${shortId(hexOf(sha256Of(this.#options.instance)))}`;
  }

  /** This instance's images in the repository. @throws CloudError */
  async ownTags(): Promise<{ readonly tag: string; readonly imageId: string }[]> {
    const tags = await this.#options.tags.list(this.#named.path);
    return tags.flatMap((tag) => {
      const hex = ownTag.exec(tag)?.[1];
      const imageId = `sha256:${hex}`;
      return hex !== undefined && tag === this.#tagOf({ id: imageId }) ? [{ tag, imageId }] : [];
    });
  }

  /** Removes a tag, and the image with its last one. @throws CloudError */
  async removeTag(tag: string): Promise<void> {
    await this.#options.tags.remove(this.#named.path, tag);
  }

  /**
   * Runs work with the registry. A refused token is renewed once.
   *
   * @throws as {@link putImage}
   */
  async connected<T>(signal: AbortSignal, work: (registry: Registry) => Promise<T>): Promise<T> {
    const { credentials, registry: options } = this.#options;
    for (let attempt = 1; ; attempt++) {
      try {
        const auth = await credentials.get(this.domain);
        using registry = await Registry.connect(this.domain, auth, options, signal);
        return await work(registry);
      } catch (error) {
        signal.throwIfAborted();
        const isRefused = error instanceof RegistryRefusal && isForbidden(error);
        if (!isRefused || attempt > 1) {
          throw error instanceof RegistryRefusal ? this.#told(error) : pushError(error);
        }
        credentials.forget(this.domain);
      }
    }
  }

  /** Runs a part of {@link connected}'s work that needs its own permission, which an error then names. */
  async needing<T>(right: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw error instanceof RegistryRefusal ? new RightRefused(error, right) : error;
    }
  }

  /** A tag's manifest; undefined if there is no such tag. @throws as {@link putImage} */
  async manifestOf(tag: string, signal: AbortSignal): Promise<string | undefined> {
    const found = await this.connected(signal, (registry) => this.#find(registry, tag, signal));
    return found?.bytes.toString("utf8");
  }

  /** The digest of a tag's manifest; undefined if there is no such tag. */
  async digestOf(registry: Registry, tag: string, signal: AbortSignal): Promise<string | undefined> {
    return (await this.#find(registry, tag, signal))?.digest;
  }

  async #find(registry: Registry, tag: string, signal: AbortSignal): Promise<FetchedManifest | undefined> {
    const asked = registry.manifest(this.#named.path, tag, signal);
    return await asked.catch(ignoring((error) => error instanceof RegistryRefusal && error.status === 404));
  }

  async #upload(
    registry: Registry,
    image: ImageRecord,
    tag: string,
    blobPath: (digest: string) => string,
    signal: AbortSignal,
  ): Promise<string> {
    const layers = image.layerDigests.map((digest) => ({ digest, path: blobPath(digest) }));
    const sent = await this.#uploadLayers(registry, image, layers, signal);
    const configPath = blobPath(image.id);
    await this.#uploadBytes(registry, await readFile(configPath), signal);
    const config = { digest: image.id, size: (await stat(configPath)).size };
    const isUnchanged = sent.every(({ digest }, index) => digest === layers[index]?.digest);
    const manifest =
      isUnchanged && image.manifestDigest !== ""
        ? await manifestAt(blobPath(image.manifestDigest), image)
        : manifestOf(config, sent);
    await registry.putManifest(this.#named.path, tag, manifest, signal);
    return manifest.digest;
  }

  /** Uploads each layer once, several at a time; the first failure aborts the others. */
  async #uploadLayers(
    registry: Registry,
    image: ImageRecord,
    layers: readonly { readonly path: string; readonly digest: string }[],
    signal: AbortSignal,
  ): Promise<SentLayer[]> {
    const { compression } = this.#options.registry;
    const failed = new AbortController();
    const ended = AbortSignal.any([signal, failed.signal]);
    const mountable = image.digests
      .map(parseNamed)
      .filter(({ domain, path: from }) => domain === this.domain && from !== this.#named.path)
      .map(({ path: from }) => from);
    const sent = new Map<string, SentLayer>();
    const waiting = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
    const work = async (): Promise<void> => {
      for (let layer = waiting.pop(); layer !== undefined; layer = waiting.pop()) {
        sent.set(layer.digest, await this.#uploadLayer(registry, layer, mountable, compression, ended));
      }
    };
    const working = Array.from({ length: parallelUploads }, work);
    try {
      await Promise.all(working);
    } catch (error) {
      failed.abort(error);
      await Promise.allSettled(working);
      throw error;
    }
    return layers.map(({ digest }) => sent.get(digest)).filter((layer) => layer !== undefined);
  }

  #told(refusal: RegistryRefusal): SockerlessError {
    const { rights } = this.#options;
    const right = refusal instanceof RightRefused ? refusal.right : rights.push;
    const needed = isForbidden(refusal) && right !== undefined ? ` (that needs ${right})` : "";
    return systemError(`${repositoryName(this.#named)}: ${refusal.reason}${needed}`, refusal);
  }

  /** Whether a blob exists. */
  async #hasBlob(registry: Registry, digest: string, signal: AbortSignal): Promise<boolean> {
    return await this.needing(this.#options.rights.look, () =>
      registry.hasBlob(this.#named.path, digest, signal),
    );
  }

  async #uploadLayer(
    registry: Registry,
    layer: { readonly path: string; readonly digest: string },
    mountable: readonly string[],
    compression: LayerCompression,
    signal: AbortSignal,
  ): Promise<SentLayer> {
    const { workDirectory } = this.#options;
    await mkdir(workDirectory, { recursive: true, mode: 0o700 });
    await using file = await layerFile(layer, workDirectory, compression, signal);
    if (!(await this.#hasBlob(registry, file.digest, signal))) {
      const open = (): AsyncIterable<Uint8Array> => createReadStream(file.path, { signal });
      const content = { length: file.size, open };
      await registry.uploadBlob(this.#named.path, file.digest, content, mountable[0], signal);
    }
    return { digest: file.digest, size: file.size, compression: file.compression };
  }

  async #uploadBytes(registry: Registry, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const digest = sha256Of(bytes);
    if (await this.#hasBlob(registry, digest, signal)) {
      return;
    }
    async function* open(): AsyncGenerator<Uint8Array> {
      yield bytes;
    }
    const content = { length: bytes.length, open };
    await registry.uploadBlob(this.#named.path, digest, content, undefined, signal);
  }
}

/** A refusal for lack of a permission other than to push. */
class RightRefused extends RegistryRefusal {
  readonly right: string;

  constructor({ code, reason, status, request }: RegistryRefusal, right: string) {
    super(code, reason, status, request);
    this.right = right;
  }
}

function isForbidden({ status }: RegistryRefusal): boolean {
  return status === 401 || status === 403;
}

type SentLayer = Pick<LayerFile, "digest" | "size" | "compression">;

/** Removes temporary files that a killed process left. */
export async function clearUploads(workDirectory: string): Promise<void> {
  await rm(workDirectory, { recursive: true, force: true });
}

function manifestOf(
  config: { readonly digest: string; readonly size: number },
  layers: readonly SentLayer[],
): FetchedManifest {
  const described = layers.map(({ compression, ...blob }) => ({ blob, compression }));
  const bytes = Buffer.from(renderManifest(config, described));
  return { bytes, digest: sha256Of(bytes), mediaType: mediaTypes.ociManifest };
}

/** The image's own manifest, if its layers are uploaded unchanged. */
async function manifestAt(file: string, image: ImageRecord): Promise<FetchedManifest> {
  const { size } = await stat(file);
  if (size > maxJsonBytes) {
    throw systemError(`the manifest of image ${image.id} has ${size} bytes`);
  }
  return {
    bytes: await readFile(file),
    digest: image.manifestDigest,
    mediaType: image.manifestMediaType,
  };
}
