/** `docker import`: the tar of a root file system becomes an image of one layer. */
import { create } from "@bufbuild/protobuf";

import type { Clock } from "../../../common/clock.ts";
import { invalid } from "../../../common/errors.ts";
import { ContainerConfigSchema, type Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { applyChanges } from "./changes/apply-changes.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { renderImageConfig } from "./image-config.ts";
import { imageEvent } from "./image-events.ts";
import { type ImageInstaller, now } from "./image-installer.ts";
import { installMadeImage, type MadeImage } from "./install-made-image.ts";
import { measureLayer } from "./layer-content.ts";
import { hostPlatform, normalizePlatform } from "./platform.ts";
import { familiarString, parseTarget } from "./reference.ts";
import { TarCheck } from "./tar-check.ts";

/** An import to be done. */
export interface ImportRequest {
  /** The tar: plain, gzip or zstd. */
  readonly archive: AsyncIterable<Uint8Array>;
  /** New name; empty: none. */
  readonly reference: string;
  readonly comment: string;
  /** Dockerfile instructions. */
  readonly changes: readonly string[];
  readonly platform: Platform | undefined;
  readonly signal: AbortSignal;
}

/**
 * Imports under a lease and answers the image's ID.
 *
 * @throws invalid: name, changes, platform or compression; not a tar, or a part of one; what the driver throws
 */
export async function importImage(
  store: ContentStore,
  installer: ImageInstaller,
  clock: Clock,
  lease: BlobLease,
  request: ImportRequest,
): Promise<string> {
  const name = request.reference === "" ? undefined : parseTarget(request.reference);
  const platform = request.platform === undefined ? hostPlatform() : normalizePlatform(request.platform);
  if (platform.os !== "linux") {
    throw invalid("operating system is not supported");
  }
  const containerConfig = applyChanges(create(ContainerConfigSchema), request.changes);

  const blob = await store.put(lease, request.archive);
  const content = store.stream(blob.digest, request.signal);
  const { diffId, size, compression } = await measureLayer(blob, content, new TarCheck());
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
  return await installMadeImage(store, installer, lease, made, request.signal);
}
