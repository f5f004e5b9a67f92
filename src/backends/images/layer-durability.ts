/**
 * Syncs the blobs of layers to disk after the answer, as is done for unpacked layers: waiting would take longer than
 * the rest of an import, much longer on a busy disk. For a build's intermediate state this applies to all blobs, as a
 * lost one is built again. Until then the image's record has the machine's boot ID; a backend that finds another boot's
 * ID there reads the blobs, and only trusts those that match their digests.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import type { Logger } from "../../common/logger.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ContentStore } from "./content-store.ts";
import type { ImageIndex } from "./image-index.ts";

/** Dependencies of the syncs. */
export interface DurabilityParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly logger: Logger;
  /** ID of the machine's boot; empty if unknown: layers are then synced before the answer. */
  readonly boot: string;
}

/** ID of this machine's boot; empty if the system does not provide it. */
export function bootOfMachine(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}

/** Syncs the blobs of layers, one image at a time. */
export class LayerDurability {
  readonly #parts: DurabilityParts;
  readonly #waiting = new Set<string>();
  #work: Promise<void> | undefined;
  #closed = false;

  constructor(parts: DurabilityParts) {
    this.#parts = parts;
  }

  /** Makes durable what must be before a record is committed; returns the record's boot ID for the rest, or "". */
  async syncBefore(record: ImageRecord): Promise<string> {
    const { content, boot } = this.#parts;
    if (record.ofBuild && boot !== "") {
      return boot;
    }
    const layers = boot === "" ? layerBlobsOf(record) : [];
    await content.sync([record.id, record.manifestDigest, ...layers]);
    return layerBlobsOf(record).length === layers.length ? "" : boot;
  }

  /** Syncs the layers of an image after its record was committed. */
  syncBehind(imageId: string): void {
    this.#waiting.add(imageId);
    if (!this.#closed) {
      this.#work ??= this.#syncWaiting().finally(() => {
        this.#work = undefined;
      });
    }
  }

  /** Checks what an earlier process did not sync; returns the images with lost layers. */
  async review(): Promise<ImageRecord[]> {
    const { index, boot } = this.#parts;
    const doubtful = new Set(
      [...index.images.values()]
        .filter(({ unsyncedBoot }) => unsyncedBoot !== "" && unsyncedBoot !== boot)
        .flatMap(blobsInStore),
    );
    const lost = new Set<string>();
    for (const digest of doubtful) {
      if (!(await this.#isWhole(digest))) {
        lost.add(digest);
      }
    }
    const [whole, broken] = [[] as ImageRecord[], [] as ImageRecord[]];
    for (const record of index.images.values()) {
      (blobsInStore(record).some((digest) => lost.has(digest)) ? broken : whole).push(record);
    }
    for (const { id, unsyncedBoot } of whole) {
      if (unsyncedBoot !== "") {
        this.syncBehind(id);
      }
    }
    return broken;
  }

  /** Waits for the current sync; the next process does the rest. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#work;
  }

  async #syncWaiting(): Promise<void> {
    for (const id of this.#waiting) {
      this.#waiting.delete(id);
      if (this.#closed) {
        return;
      }
      await this.#syncImage(id);
    }
  }

  async #syncImage(id: string): Promise<void> {
    const { index, content, logger } = this.#parts;
    const record = index.images.get(id);
    if (record === undefined) {
      return; // Removed meanwhile.
    }
    /** The current record, unless a push has replaced the layers. */
    const same = (): ImageRecord | undefined => {
      const now = index.images.get(id);
      return now?.manifestDigest === record.manifestDigest ? now : undefined;
    };
    try {
      await content.sync(blobsInStore(record));
      const now = same();
      if (now !== undefined) {
        await index.commit({ put: [{ ...now, unsyncedBoot: "" }] });
      }
    } catch (error) {
      if (same() !== undefined) {
        logger.error({ err: error, image: id }, "an image may not survive a crash of the machine");
      }
    }
    if (same() === undefined) {
      this.#waiting.add(id);
    }
  }

  async #isWhole(digest: string): Promise<boolean> {
    const hash = createHash("sha256");
    try {
      for await (const chunk of this.#parts.content.stream(digest)) {
        hash.update(chunk);
      }
    } catch {
      return false;
    }
    return `sha256:${hash.digest("hex")}` === digest;
  }
}

function blobsInStore(record: ImageRecord): string[] {
  return [record.id, record.manifestDigest, ...layerBlobsOf(record)];
}

/** The blobs of layers that are in the store. */
function layerBlobsOf({ layerSizes, layerDigests }: ImageRecord): readonly string[] {
  return layerSizes.length > 0 ? layerDigests : [];
}
