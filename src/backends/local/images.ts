import type { MessageInitShape } from "@bufbuild/protobuf";

import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { systemError } from "../../common/errors.ts";
import type {
  ArchiveEntry as WireEntry,
  ArchivePartSchema,
  TakeUploadResponse,
} from "../../gen/sockerless/host/v1/host_pb.ts";
import type {
  ArchiveDownloads,
  ArchiveEntry,
  ArchivePart,
  ExpectedArchive,
  ExpectedUpload,
  TakenUpload,
} from "../driver/archives.ts";
import type { ImagePreparer } from "../driver/images.ts";
import { fromHostError, type HostClient, orHostError } from "./host-client.ts";

/** Layers unpacked at a time: the disk is the bottleneck, not the CPU. */
const parallelUnpacks = 2;

/** An image can run here once all its layers are unpacked on this machine. */
export function localImages(host: HostClient["client"], storedSocket: string): ImagePreparer {
  /** Diff IDs of layers known to be unpacked: an image of a build has one per step, but only one new one. */
  const unpacked = new Set<string>();
  const expect = async (uploadId: string, blobPath: string, signal: AbortSignal): Promise<ExpectedUpload> => {
    const over = new AbortController();
    const ended = AbortSignal.any([signal, over.signal]);
    const messages = host.takeUpload({ uploadId, blobPath }, { signal: ended })[Symbol.asyncIterator]();
    await orHostError(nextOf(messages));
    const taken = orHostError(nextOf(messages)).then(takenOf);
    taken.catch(() => {}); // The waiting caller handles it.
    return {
      address: { kind: "unix", path: storedSocket },
      taken,
      async [Symbol.asyncDispose]() {
        over.abort();
        await taken.catch(() => {});
      },
    };
  };
  const expectArchive = async (
    uploadId: string,
    directory: string,
    signal: AbortSignal,
  ): Promise<ExpectedArchive> => {
    const over = new AbortController();
    const ended = AbortSignal.any([signal, over.signal]);
    const messages = host.takeArchive({ uploadId, directory }, { signal: ended })[Symbol.asyncIterator]();
    await orHostError(nextOf(messages));
    async function* entries(): AsyncGenerator<ArchiveEntry> {
      for (;;) {
        const { message } = await orHostError(nextOf(messages));
        if (message.case === "end") {
          return;
        }
        if (message.case === "entry") {
          yield entryOf(message.value);
        }
      }
    }
    return {
      address: { kind: "unix", path: storedSocket },
      entries: entries(),
      async [Symbol.asyncDispose]() {
        over.abort();
        await messages.next().catch(() => {});
      },
    };
  };
  const offer: Extract<ArchiveDownloads, { kind: "direct" }>["offer"] = async (
    archiveId,
    parts,
    blobPath,
    signal,
  ) => {
    const request = { archiveId, parts: parts.map((part) => partOf(part, blobPath)) };
    const messages = host.offerArchive(request, { signal })[Symbol.asyncIterator]();
    await orHostError(nextOf(messages));
    messages.next().catch(() => {}); // Ends with the signal, or with the host process.
    return { kind: "unix", path: storedSocket };
  };

  return {
    async prepare(image, blobPath, signal) {
      const waiting = layersOf(image).filter(({ diffId }) => !unpacked.has(diffId));
      const failed = new AbortController();
      const ended = AbortSignal.any([signal, failed.signal]);
      const unpackAll = async (): Promise<void> => {
        for (let layer = waiting.pop(); layer !== undefined; layer = waiting.pop()) {
          await host.unpackLayer(
            { diffId: layer.diffId, blobPath: blobPath(layer.digest) },
            { signal: ended },
          );
          unpacked.add(layer.diffId);
        }
      };
      const unpacking = Array.from({ length: parallelUnpacks }, unpackAll);
      try {
        await Promise.all(unpacking);
        return "";
      } catch (error) {
        failed.abort();
        // No unpacking may continue after the answer: the caller then removes the layers.
        await Promise.allSettled(unpacking);
        throw fromHostError(error);
      }
    },
    unpacking: {
      kind: "driver",
      async unpack(diffId, blobPath, signal) {
        const { tarSize } = await orHostError(host.unpackLayer({ diffId, blobPath }, { signal }));
        unpacked.add(diffId);
        return tarSize === 0n ? undefined : Number(tarSize);
      },
      async known() {
        return (await orHostError(host.listLayers({}))).diffIds;
      },
      async forget(diffIds) {
        for (const diffId of diffIds) {
          unpacked.delete(diffId);
          await orHostError(host.removeLayer({ diffId }));
        }
      },
    },
    keepsOwn: true,
    uploads: { kind: "direct", expect, expectArchive },
    downloads: { kind: "direct", offer },
    discard: () => Promise.resolve(), // An image has nothing here but its layers.
  };
}

function entryOf({ name, kind }: WireEntry): ArchiveEntry {
  switch (kind.case) {
    case "file": {
      const { path, digest, size } = kind.value;
      return { name, type: "file", path, digest, size: Number(size) };
    }
    case "symlink":
      return { name, type: "symlink", target: kind.value };
    case "hardLink":
      return { name, type: "link", target: kind.value };
    default:
      return { name, type: kind.case === "folder" ? "directory" : "other" };
  }
}

function partOf(
  part: ArchivePart,
  blobPath: (digest: string) => string,
): MessageInitShape<typeof ArchivePartSchema> {
  if (part.kind === "bytes") {
    return { part: { case: "content", value: part.bytes } };
  }
  const { diffId, size, digest } = part;
  return { part: { case: "layer", value: { blobPath: blobPath(digest), diffId, size: BigInt(size) } } };
}

async function nextOf<T>(messages: AsyncIterator<T>): Promise<T> {
  const next = await messages.next();
  if (next.done === true) {
    throw systemError("the host process ended a transfer without a word");
  }
  return next.value;
}

function takenOf({ message }: TakeUploadResponse): TakenUpload {
  if (message.case !== "taken") {
    throw systemError("the host process did not report the upload");
  }
  const { digest, size, diffId, tarSize, compression } = message.value;
  return {
    digest,
    size: Number(size),
    diffId,
    tarSize: Number(tarSize),
    compression: compression === "gzip" || compression === "zstd" ? compression : undefined,
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
