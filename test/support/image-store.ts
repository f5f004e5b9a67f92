/** Images on a temporary state, with a driver that keeps a list of the layers it was given. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";

import { pino } from "pino";

import type { ArchiveDownloads, LayerUploads } from "../../src/backends/driver/archives.ts";
import type { ImagePreparer, LayerUnpacking } from "../../src/backends/driver/images.ts";
import { createImages, type Images, type ImagesOptions } from "../../src/backends/images/images.ts";
import { openState, type State } from "../../src/backends/state/state.ts";
import { ManualClock } from "../../src/common/manual-clock.ts";

/** A driver that unpacks nothing. */
export class RecordingPreparer implements ImagePreparer {
  readonly layers = new Set<string>();
  unpacking: LayerUnpacking = {
    kind: "driver",
    unpack: async (diffId) => {
      const size = await this.unpacksTo?.(diffId);
      if (size !== undefined) {
        this.layers.add(diffId);
      }
      return size;
    },
    forget: async (diffIds) => {
      for (const diffId of diffIds) {
        this.layers.delete(diffId);
      }
    },
    known: async () => [...this.layers],
  };
  keepsOwn = true;
  uploads: LayerUploads = { kind: "relayed" };
  downloads: ArchiveDownloads = { kind: "relayed" };
  /** Reference that preparations answer. */
  reference = "";
  /** IDs of images, in the order in which they were prepared and discarded. */
  readonly prepared: string[] = [];
  readonly discarded: string[] = [];
  /** Error that the next preparation fails with. */
  failure: Error | undefined;
  /** Has the driver unpack layers ahead of images: bytes that it answers for a diff ID, or its refusal. */
  unpacksTo: ((diffId: string) => Promise<number | undefined>) | undefined;
  /** Called before an image is prepared. */
  beforePrepare: (() => Promise<void>) | undefined;

  async prepare(
    image: Parameters<ImagePreparer["prepare"]>[0],
    _blobPath: (digest: string) => string,
    signal: AbortSignal,
  ): Promise<string> {
    await this.beforePrepare?.();
    signal.throwIfAborted();
    if (this.failure !== undefined) {
      throw this.failure;
    }
    for (const diffId of image.diffIds) {
      this.layers.add(diffId);
    }
    this.prepared.push(image.id);
    return this.reference;
  }

  async discard(image: Parameters<ImagePreparer["prepare"]>[0]): Promise<void> {
    this.discarded.push(image.id);
  }
}

/** How registries are spoken to. */
export const testRegistries = {
  insecureHosts: [],
  userAgent: "sockerless-test",
  compression: "gzip" as const,
  silenceMs: 120_000,
};

/** The images of a test and what they stand on. */
export interface TestImageStore {
  readonly images: Images;
  readonly state: State;
  readonly preparer: RecordingPreparer;
  readonly clock: ManualClock;
  readonly directory: string;
  /** Digests of all blobs, sorted. */
  blobs(): Promise<string[]>;
  /** Names of blobs being written. */
  ingests(): Promise<string[]>;
  /** Actions of the journalled events, oldest first. */
  events(): string[];
  /** Closes everything and opens it again on the same state. */
  reopen(): Promise<TestImageStore>;
}

/** Opens images that go with the test. */
export async function openImageStore(
  context: Pick<TestContext, "after">,
  options: Partial<ImagesOptions> = {},
): Promise<TestImageStore> {
  const directory = await mkdtemp(path.join(tmpdir(), "sockerless-images-"));
  let current: TestImageStore | undefined;
  context.after(async () => {
    await current?.images.close();
    await current?.state.close();
    await rm(directory, { recursive: true });
  });
  const open = async (): Promise<TestImageStore> => {
    const clock = new ManualClock();
    const preparer = new RecordingPreparer();
    const state = await openState({ directory, clock });
    const images = await createImages({
      stateDirectory: directory,
      state,
      preparer,
      clock,
      logger: pino({ level: "silent" }),
      storageDriver: "overlay2",
      registry: testRegistries,
      ...options,
    });
    current = {
      images,
      state,
      preparer,
      clock,
      directory,
      blobs: async () =>
        (await readdir(path.join(directory, "blobs/sha256"))).map((name) => `sha256:${name}`).toSorted(),
      ingests: () => readdir(path.join(directory, "blobs/ingest")),
      events: () => state.events.past().map((event) => event.action),
      reopen: async () => {
        await images.close();
        await state.close();
        return await open();
      },
    };
    return current;
  };
  return await open();
}

/** Bytes as a stream of chunks of a size that falls on no boundary. */
export async function* streamOf(bytes: Uint8Array, chunkSize = 60_001): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkSize) {
    yield bytes.subarray(at, at + chunkSize);
  }
}
