/** The layers of a pull: downloads those that are missing, and checks all against the image's configuration. */
import { invalid } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import { downloadBlob, type DownloadContext, throttle } from "./blob-download.ts";
import type { StoredBlob } from "./content-store.ts";
import type { ImageConfig } from "./image-config.ts";
import type { ImageIndex } from "./image-index.ts";
import type { InstalledLayer } from "./image-installer.ts";
import { measureLayer } from "./layer-content.ts";
import { Limiter } from "../concurrency/limiter.ts";
import type { Descriptor } from "./manifest.ts";
import type { ReportProgress } from "./progress.ts";

/** Layers of a pull that are unpacked or read at a time. */
const parallelMeasures = 3;

/** Unpacks a layer with a diff ID and digest for the driver, as {@link ImageInstaller.unpack}. */
export type UnpackLayer = (
  diffId: string,
  digest: string,
  signal: AbortSignal,
) => Promise<number | undefined>;

export class LayerFetch {
  /** Digests of the layers that were missing, in the manifest's order. */
  readonly fetched = new Set<string>();
  readonly #download: DownloadContext;
  readonly #index: ImageIndex;
  readonly #downloads: Limiter;
  /** Turns to unpack, of this pull alone: one with many layers delays no other. */
  readonly #measures = new Limiter(parallelMeasures);
  readonly #unpack: UnpackLayer | undefined;

  /** @param unpack absent: layers are measured by reading them */
  constructor(download: DownloadContext, index: ImageIndex, downloads: Limiter, unpack?: UnpackLayer) {
    this.#download = download;
    this.#index = index;
    this.#downloads = downloads;
    this.#unpack = unpack;
  }

  /** Fetches all layers, several at a time; a layer that occurs twice is fetched once. */
  async fetch(descriptors: readonly Descriptor[], config: ImageConfig): Promise<InstalledLayer[]> {
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#download.signal, failed.signal]);
    const layers = new Map<string, Promise<InstalledLayer>>();
    for (const [index, descriptor] of descriptors.entries()) {
      if (!layers.has(descriptor.digest)) {
        const layer = this.#layer(descriptor, config.diffIds[index], signal);
        // The first failure cancels the others; wait for all, so that none writes after the lease has ended.
        layer.catch((error: unknown) => failed.abort(error));
        layers.set(descriptor.digest, layer);
      }
    }
    await Promise.allSettled(layers.values());
    this.#download.signal.throwIfAborted();
    failed.signal.throwIfAborted();
    const fetched = await Promise.all(descriptors.map(({ digest }) => layers.get(digest)));
    return fetched.map((layer, index) => {
      if (layer === undefined || layer.diffId !== config.diffIds[index]) {
        throw layersMismatch();
      }
      return layer;
    });
  }

  async #layer(
    descriptor: Descriptor,
    expected: string | undefined,
    signal: AbortSignal,
  ): Promise<InstalledLayer> {
    const { store, lease, report } = this.#download;
    const id = shortId(descriptor.digest);
    lease.hold(descriptor.digest);
    const existing = await store.find(descriptor.digest);
    if (existing !== undefined) {
      report({ id, status: "Already exists" });
      return (
        this.#knownLayer(descriptor.digest) ?? (await this.#measure(existing, expected, () => {}, signal))
      );
    }
    this.fetched.add(descriptor.digest);
    report({ id, status: "Pulling fs layer" });
    let blob: StoredBlob;
    {
      using _turn = await this.#downloads.acquire(this.#download.registry.url.host, signal, () =>
        report({ id, status: "Waiting" }),
      );
      blob = await downloadBlob(descriptor, { ...this.#download, signal });
    }
    return await this.#measure(blob, expected, throttle(report), signal);
  }

  /** Finds the layer's diff ID and size by unpacking it, for the driver if that wants it, otherwise in memory. */
  async #measure(
    blob: StoredBlob,
    expected: string | undefined,
    report: ReportProgress,
    signal: AbortSignal,
  ): Promise<InstalledLayer> {
    using _turn = await this.#measures.acquire("", signal);
    const { store, advanced } = this.#download;
    const id = shortId(blob.digest);
    if (expected !== undefined && this.#unpack !== undefined) {
      report({ id, status: "Extracting", current: 0, total: blob.size });
      const unpacked = await this.#unpack(expected, blob.digest, signal);
      if (unpacked !== undefined) {
        report({ id, status: "Extracting", current: blob.size, total: blob.size });
        return { diffId: expected, digest: blob.digest, size: unpacked };
      }
    }
    async function* counted(): AsyncGenerator<Uint8Array> {
      let current = 0;
      for await (const chunk of store.stream(blob.digest, signal)) {
        current += chunk.length;
        advanced?.(chunk.length);
        report({ id, status: "Extracting", current, total: blob.size });
        yield chunk;
      }
    }
    const { diffId, size } = await measureLayer(blob, counted(), signal);
    return { diffId, digest: blob.digest, size };
  }

  /** A layer as recorded for another image; undefined if there is none. */
  #knownLayer(digest: string): InstalledLayer | undefined {
    for (const record of this.#index.images.referringTo(digest)) {
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

/** Checks that a manifest and a configuration can belong together. @throws invalid */
export function checkLayerCount(layers: readonly Descriptor[], config: ImageConfig): void {
  if (config.diffIds.length !== layers.length) {
    throw layersMismatch();
  }
}

function layersMismatch(): Error {
  return invalid("layers from manifest don't match image configuration");
}
