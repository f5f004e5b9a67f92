import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../common/driver.ts";
import { fromHostError, orHostError } from "./host-client.ts";
import type { HostProcess } from "./host-process.ts";

/** Layers that are unpacked at one time: unpacking is bound by the disk, not by processors. */
const parallelUnpacks = 2;

/** An image runs here once each of its layers lies unpacked on this machine. */
export function localImages(process: HostProcess): ImagePreparer {
  const host = process.client;
  return {
    needsLayers: true,
    async prepare(image, blobPath, signal) {
      const waiting = layersOf(image);
      const failed = new AbortController();
      const ended = AbortSignal.any([signal, failed.signal]);
      const unpackAll = async (): Promise<void> => {
        for (let layer = waiting.pop(); layer !== undefined; layer = waiting.pop()) {
          await host.unpackLayer(
            { diffId: layer.diffId, blobPath: blobPath(layer.digest) },
            { signal: ended },
          );
        }
      };
      const unpacking = Array.from({ length: parallelUnpacks }, unpackAll);
      try {
        await Promise.all(unpacking);
        return "";
      } catch (error) {
        failed.abort();
        // Nothing goes on behind the answer: the caller takes the layers away again.
        await Promise.allSettled(unpacking);
        throw fromHostError(error);
      }
    },
    async known() {
      return (await orHostError(host.listLayers({}))).diffIds;
    },
    async forget(diffIds) {
      for (const diffId of diffIds) {
        await orHostError(process.persist((client) => client.removeLayer({ diffId })));
      }
    },
  };
}

function layersOf(image: ImageRecord): { diffId: string; digest: string }[] {
  const seen = new Set<string>();
  const layers: { diffId: string; digest: string }[] = [];
  image.diffIds.forEach((diffId, index) => {
    const digest = image.layerDigests[index];
    if (digest !== undefined && !seen.has(diffId)) {
      seen.add(diffId);
      layers.push({ diffId, digest });
    }
  });
  return layers;
}
