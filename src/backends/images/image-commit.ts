/** `docker commit`: a container's changes become a layer on top of the container's image. */
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../common/clock.ts";
import { systemError } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { LayerUnpacking } from "../driver/images.ts";
import type { CommittedImage, ImageCommit } from "../driver/image-source.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import { type ImageConfig, renderImageConfig, withLayers } from "./image-config.ts";
import { imageEvent } from "./image-events.ts";
import { type ImageInstaller, now } from "./image-installer.ts";
import { installMadeImage, type MadeImage, type MadeLayer } from "./install-made-image.ts";
import { layerBlobs } from "./layer-blobs.ts";
import { familiarString, parseTarget } from "./reference.ts";
import { checkedTar } from "./tar-check.ts";

/** Digest of a tar without entries: such a layer is omitted, as in Docker. */
const emptyTar = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/** Dependencies of a commit. */
export interface CommitParts {
  readonly content: ContentStore;
  readonly installer: ImageInstaller;
  readonly unpacking: LayerUnpacking;
  readonly clock: Clock;
}

/** The image of the container to commit. */
export interface ParentImage {
  readonly record: ImageRecord;
  readonly config: ImageConfig;
}

/**
 * Makes the image under a lease. The layer's bytes come from an agent, which is not trusted: a driver that unpacks them
 * rejects anything but a tar; a platform would notice at the next start.
 *
 * @throws invalid: the name, the configuration, or an incomplete tar; errors of the layer's source and the driver
 */
export async function commitImage(
  { content, installer, unpacking, clock }: CommitParts,
  lease: BlobLease,
  parent: ParentImage,
  request: ImageCommit,
): Promise<CommittedImage> {
  const { imageConfig, reference, ofBuild, signal } = request;
  const name = reference === "" ? undefined : parseTarget(reference);
  const inherited = await inheritedLayers(content, parent.record);
  const layer = unpacking.kind === "platform" ? checkedTar(request.layer) : request.layer;
  const blob = await content.put(lease, layer);
  const isEmpty = blob.digest === emptyTar;
  const layers = isEmpty && imageConfig === undefined ? inherited : [...inherited, ownLayer(blob)];
  const diffIds = layers.map((layer) => layer.diffId);
  const made: MadeImage = {
    layers,
    name,
    ofBuild: ofBuild === true && name === undefined,
    ...(imageConfig === undefined
      ? {
          configBytes: renderCommit(parent.config, request, diffIds, isEmpty, now(clock)),
          parentId: parent.record.id,
          events: (id, config) => [
            imageEvent("create", id, id, config),
            ...(name === undefined ? [] : [imageEvent("tag", id, familiarString(name), config)]),
          ],
        }
      : { configBytes: withLayers(imageConfig, diffIds), events: () => [] }),
  };
  const id = await installMadeImage(content, installer, lease, made, signal);
  return { id, diffIds, changesSize: blob.size };
}

function renderCommit(
  parent: ImageConfig,
  { author, comment, config, createdBy }: ImageCommit,
  diffIds: readonly string[],
  emptyLayer: boolean,
  created: Timestamp,
): Uint8Array {
  const { platform, osVersion, history } = parent;
  const step = { created: toJson(TimestampSchema, created), createdBy, author, comment, emptyLayer };
  const steps = [...history, step];
  return renderImageConfig({
    created,
    comment,
    author,
    platform,
    osVersion,
    config,
    diffIds,
    history: steps,
  });
}

/** The parent image's layers, which the caller holds so that they outlive it. */
async function inheritedLayers(store: ContentStore, record: ImageRecord): Promise<MadeLayer[]> {
  const layers = await layerBlobs(store, record);
  return layers.map(({ blob, compression, diffId, size }) => ({
    blob,
    compression,
    diffId,
    digest: blob.digest,
    size,
  }));
}

/** The agent's layer is uncompressed, so the blob's digest is the diff ID. */
function ownLayer(blob: StoredBlob): MadeLayer {
  if (blob.size === 0) {
    throw systemError("the container's layer has no bytes");
  }
  return { blob, compression: undefined, diffId: blob.digest, digest: blob.digest, size: blob.size };
}
