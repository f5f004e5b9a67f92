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

/** A request to import. */
export interface ImportRequest {
  /** Name of the new image; empty for none. */
  readonly reference: string;
  readonly comment: string;
  /** Dockerfile instructions. */
  readonly changes: readonly string[];
  readonly platform: Platform | undefined;
  readonly signal: AbortSignal;
}

/** An import of an archive that passes through this process. */
export interface StreamImportRequest extends ImportRequest {
  /** The tar: plain, gzip or zstd. */
  readonly archive: AsyncIterable<Uint8Array>;
}

/** An import of the archive at a URL. */
export interface UrlImportRequest extends ImportRequest {
  readonly url: string;
  readonly report: ReportProgress;
}

/** Dependencies of imports. */
export interface ImportParts {
  readonly content: ContentStore;
  readonly installer: ImageInstaller;
  readonly preparer: ImagePreparer;
  readonly registry: RegistryOptions;
  readonly work: ImageWork;
  readonly clock: Clock;
  /** Default platform of images; absent for this machine's. */
  readonly defaultPlatform: Platform | undefined;
}

/** Makes images from root file systems. */
export class ImageImports {
  readonly #parts: ImportParts;

  constructor(parts: ImportParts) {
    this.#parts = parts;
  }

  /**
   * Imports an archive that passes through this process; returns the image's ID.
   *
   * @throws invalid: name, changes, platform or compression; not a tar, or a truncated one; the driver's error
   */
  fromStream({ archive, ...request }: StreamImportRequest): Promise<string> {
    const { content, work } = this.#parts;
    return work.run(request.signal, (lease, signal) =>
      this.#import(lease, { ...request, signal }, () =>
        takeStream(content, lease, abortable(archive, signal), signal),
      ),
    );
  }

  /**
   * Imports an archive that is uploaded to the driver; see {@link takeUpload}.
   *
   * @returns the address for the upload, and the image's ID once that is done
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

  /** Downloads an archive and imports it; see {@link fetchUrl}. @throws as {@link fromStream} */
  fromUrl({ url, report, ...request }: UrlImportRequest): Promise<string> {
    const { content, registry, work } = this.#parts;
    return work.run(request.signal, async (lease, signal) => {
      if (request.reference !== "") {
        parseTarget(request.reference); // Rejects an invalid name before the download.
      }
      using fetched = await fetchUrl(url, registry, signal);
      report({ id: "", status: `Downloading from ${fetched.url}` });
      const archive = abortable(withProgress(fetched, report), signal);
      return await this.#import(lease, { ...request, signal }, () =>
        takeStream(content, lease, archive, signal),
      );
    });
  }

  /** @param take called once everything else is valid: receives the tar, plain or compressed by gzip or zstd */
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

/** Receives the archive; an uncompressed one is verified while it arrives, and not read again. */
async function takeStream(
  store: ContentStore,
  lease: BlobLease,
  archive: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<TakenLayer> {
  const { start, whole } = await peeked(archive);
  if (compressionOf(start) !== undefined) {
    const blob = await store.put(lease, whole);
    return { blob, ...(await measureLayer(blob, store.stream(blob.digest, signal), signal, new TarCheck())) };
  }
  const blob = await store.put(lease, checkedTar(whole));
  return { blob, diffId: blob.digest, size: blob.size, compression: undefined };
}
