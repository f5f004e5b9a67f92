/** `docker import`: the tar of a root file system becomes an image of one layer. */
import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../common/clock.ts";
import { invalid, systemError } from "../../common/errors.ts";
import { ContainerConfigSchema, type Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImagePreparer } from "../driver/images.ts";
import { abortable } from "./abortable-stream.ts";
import { applyChanges } from "./changes/apply-changes.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { fetchUrl, withProgress } from "./fetch-url.ts";
import { renderImageConfig } from "./image-config.ts";
import { imageEvent } from "./image-events.ts";
import { type ImageInstaller, now } from "./image-installer.ts";
import type { ImageWork } from "./image-work.ts";
import { installMadeImage, type MadeImage } from "./install-made-image.ts";
import { compressionOf, measureLayer, peeked } from "./layer-content.ts";
import { type TakenLayer, takeUpload, type UploadPlace } from "./layer-upload.ts";
import { hostPlatform, normalizePlatform } from "./platform.ts";
import type { ReportProgress } from "./progress.ts";
import { familiarString, parseTarget } from "./reference.ts";
import type { RegistryOptions } from "./registry/registry.ts";
import { checkedTar, TarCheck } from "./tar-check.ts";

/** An import to be done. */
export interface ImportRequest {
  /** New name; empty: none. */
  readonly reference: string;
  readonly comment: string;
  /** Dockerfile instructions. */
  readonly changes: readonly string[];
  readonly platform: Platform | undefined;
  readonly signal: AbortSignal;
}

/** An import of what comes through this process. */
export interface StreamImportRequest extends ImportRequest {
  /** The tar: plain, gzip or zstd. */
  readonly archive: AsyncIterable<Uint8Array>;
}

/** An import of the archive at a URL. */
export interface UrlImportRequest extends ImportRequest {
  readonly url: string;
  readonly report: ReportProgress;
}

/** Parts of the images that imports work with. */
export interface ImportParts {
  readonly content: ContentStore;
  readonly installer: ImageInstaller;
  readonly preparer: ImagePreparer;
  readonly registry: RegistryOptions;
  readonly work: ImageWork;
  readonly clock: Clock;
  /** The platform of images where nobody names one; absent: this machine's. */
  readonly defaultPlatform: Platform | undefined;
}

/** Makes images of root file systems. */
export class ImageImports {
  readonly #parts: ImportParts;

  constructor(parts: ImportParts) {
    this.#parts = parts;
  }

  /**
   * Imports what comes through this process, and answers the image's ID.
   *
   * @throws invalid: name, changes, platform or compression; not a tar, or a part of one; what the driver throws
   */
  fromStream({ archive, ...request }: StreamImportRequest): Promise<string> {
    const { content, work } = this.#parts;
    return work.run(request.signal, (lease, signal) =>
      this.#import(lease, { ...request, signal }, () =>
        takeStream(content, lease, abortable(archive, signal), signal),
      ),
    );
  }

  /** Whether {@link fromUpload} can be used. */
  get takesUploads(): boolean {
    return this.#parts.preparer.uploads.kind === "direct";
  }

  /**
   * Imports what goes to the driver; see {@link takeUpload}.
   *
   * @returns where to send it, and the image's ID once that is done
   */
  async fromUpload(request: ImportRequest): Promise<UploadPlace & { readonly imageId: Promise<string> }> {
    const { content, preparer, work } = this.#parts;
    const place = Promise.withResolvers<UploadPlace>();
    const imageId = work.run(request.signal, async (lease, signal) => {
      const { uploads } = preparer;
      if (uploads.kind === "relayed") {
        throw systemError("uploads come through this process");
      }
      await using owner = new AsyncDisposableStack();
      return await this.#import(lease, { ...request, signal }, () =>
        takeUpload(content, lease, uploads.expect, owner, place.resolve, signal),
      );
    });
    imageId.catch(place.reject);
    return { ...(await place.promise), imageId };
  }

  /** Fetches an archive and imports it; see {@link fetchUrl}. Throws as {@link fromStream}. */
  fromUrl({ url, report, ...request }: UrlImportRequest): Promise<string> {
    const { content, registry, work } = this.#parts;
    return work.run(request.signal, async (lease, signal) => {
      if (request.reference !== "") {
        parseTarget(request.reference); // A name that is none is told before anybody is asked for the archive.
      }
      using fetched = await fetchUrl(url, registry, signal);
      report({ id: "", status: `Downloading from ${fetched.url}` });
      const archive = abortable(withProgress(fetched, report), signal);
      return await this.#import(lease, { ...request, signal }, () =>
        takeStream(content, lease, archive, signal),
      );
    });
  }

  /** @param take is called once all else is right: gets the tar, which may be compressed, as gzip or zstd */
  async #import(lease: BlobLease, request: ImportRequest, take: () => Promise<TakenLayer>): Promise<string> {
    const { content, installer, clock, defaultPlatform } = this.#parts;
    const name = request.reference === "" ? undefined : parseTarget(request.reference);
    const wanted = request.platform ?? defaultPlatform;
    const platform = wanted === undefined ? hostPlatform() : normalizePlatform(wanted);
    if (platform.os !== "linux") {
      throw invalid("operating system is not supported");
    }
    const containerConfig = applyChanges(create(ContainerConfigSchema), request.changes);

    const { blob, diffId, size, compression } = await take();
    const configBytes = renderImageConfig({
      created: now(clock),
      comment: request.comment,
      platform,
      config: containerConfig,
      diffIds: [diffId],
    });
    const made: MadeImage = {
      configBytes,
      layers: [{ blob, compression, diffId, digest: blob.digest, size }],
      name,
      events: (id, config) => [
        ...(name === undefined ? [] : [imageEvent("tag", id, familiarString(name), config)]),
        imageEvent("import", id, id, config),
      ],
    };
    return await installMadeImage(content, installer, lease, made, request.signal);
  }
}

/** Takes the archive in; what is not compressed is checked while it comes, and not read again. */
async function takeStream(
  store: ContentStore,
  lease: BlobLease,
  archive: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<TakenLayer> {
  const { start, whole } = await peeked(archive);
  if (compressionOf(start) !== undefined) {
    const blob = await store.put(lease, whole);
    return { blob, ...(await measureLayer(blob, store.stream(blob.digest, signal), new TarCheck())) };
  }
  const blob = await store.put(lease, checkedTar(whole));
  return { blob, diffId: blob.digest, size: blob.size, compression: undefined };
}
