/** A layer uploaded to the driver without passing through this process: stored, measured and unpacked as it arrives. */
import { randomBytes } from "node:crypto";

import type { AgentAddress } from "../../agent-client/address.ts";
import type { LayerUploads } from "../driver/archives.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import type { LayerMeasure } from "./layer-content.ts";

/** A layer that was received and checked. */
export type TakenLayer = LayerMeasure & { readonly blob: StoredBlob };

/** The address for an upload. */
export interface UploadPlace {
  readonly address: AgentAddress;
  /** A full ID, like a container's. */
  readonly uploadId: string;
}

/**
 * Makes the driver receive an upload, and returns the resulting layer.
 *
 * @param owner disposed when the driver need not keep the unpacked layer for the image any longer
 * @param ready called with the address for the upload
 * @throws as {@link ExpectedUpload.taken}
 */
export async function takeUpload(
  store: ContentStore,
  lease: BlobLease,
  expect: Extract<LayerUploads, { kind: "direct" }>["expect"],
  owner: AsyncDisposableStack,
  ready: (place: UploadPlace) => void,
  signal: AbortSignal,
): Promise<TakenLayer> {
  const uploadId = randomBytes(32).toString("hex");
  const reserved = owner.use(store.reserve());
  const upload = owner.use(await expect(uploadId, reserved.path, signal));
  ready({ address: upload.address, uploadId });
  const { digest, size, diffId, tarSize, compression } = await upload.taken;
  const blob = await reserved.adopt(lease, { digest, size });
  return { blob, diffId, size: tarSize, compression };
}
