/** A layer that goes to the driver and not through this process: stored, measured and unpacked there while it comes. */
import { randomBytes } from "node:crypto";

import type { AgentAddress } from "../../agent-client/address.ts";
import type { LayerUploads } from "../driver/archives.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import type { LayerMeasure } from "./layer-content.ts";

/** A layer that has come in, checked. */
export type TakenLayer = LayerMeasure & { readonly blob: StoredBlob };

/** Address to which an upload is to be sent. */
export interface UploadPlace {
  readonly address: AgentAddress;
  /** A full ID, as a container has. */
  readonly uploadId: string;
}

/**
 * Has the driver take an upload in, and answers what it is.
 *
 * @param owner lasts as long as the driver is to keep the unpacked layer for the image
 * @param ready is told where to send it
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
