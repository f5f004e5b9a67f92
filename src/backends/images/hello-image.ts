/**
 * The built-in image `sockerless/hello`: one static binary that prints a greeting, so that the first `docker run` needs
 * no registry. Each start recreates it if it is missing, even if a user removed it; the name is left alone if a user
 * gave it to another image. Equal binaries give equal IDs.
 */
import { readFile } from "node:fs/promises";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { pack } from "tar-stream";

import { ContainerConfigSchema, StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { parseImageConfig, renderImageConfig } from "./image-config.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageDisposal } from "./image-disposal.ts";
import type { ImageIndex } from "./image-index.ts";
import type { ImageInstaller, ImageToInstall } from "./image-installer.ts";
import { writeManifest } from "./image-manifest-writer.ts";
import type { ImageWork } from "./image-work.ts";
import { hostPlatform } from "./platform.ts";
import { canonicalString, parseNamed } from "./reference.ts";

/** The full name of the built-in image. */
export const helloName = canonicalString(parseNamed("sockerless/hello:latest"));

/** The label that marks images of earlier versions as built-in. */
export const builtInLabel = "sockerless.built-in";

/** Constant, since it is part of the ID. */
const created = Date.UTC(2025, 0, 1);

/** Dependencies of the built-in image. */
export interface BuiltInParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly installer: ImageInstaller;
  readonly disposal: ImageDisposal;
  readonly work: ImageWork;
}

/** Makes the built-in image. */
export class BuiltInImage {
  readonly #parts: BuiltInParts;

  constructor(parts: BuiltInParts) {
    this.#parts = parts;
  }

  /** Creates the image from a static binary if it is missing, replacing one of an earlier version. Emits no events. */
  async ensure(binaryPath: string, signal: AbortSignal): Promise<void> {
    const { content, index, installer, disposal, work } = this.#parts;
    const holder = index.named(parseNamed(helloName));
    if (holder !== undefined && !this.#isBuiltIn(holder)) {
      return;
    }
    await work.run(signal, async (lease, ended) => {
      const image = await makeHelloImage(content, lease, binaryPath);
      if (image.id !== holder?.id) {
        await installer.install([image], ended);
      }
    });
    for (const record of [...index.images.values()]) {
      const isNamed = record.names.length > 0 || record.digests.length > 0;
      const isUsed = index.images.isParent(record.id) || disposal.usersOf(record.id).length > 0;
      if (!isNamed && this.#isBuiltIn(record) && !isUsed) {
        await disposal.delete(record, []);
      }
    }
  }

  #isBuiltIn(record: ImageRecord): boolean {
    return this.#parts.configs.find(record.id)?.config.labels[builtInLabel] !== undefined;
  }
}

/** Writes the image of a binary into the store. */
async function makeHelloImage(
  store: ContentStore,
  lease: BlobLease,
  binaryPath: string,
): Promise<ImageToInstall> {
  const layer = await tarOfProgram("hello", await readFile(binaryPath));
  const blob = await store.putBytes(lease, layer);
  const configBytes = renderImageConfig({
    created: timestampFromMs(created),
    comment: "",
    platform: hostPlatform(),
    config: create(ContainerConfigSchema, {
      cmd: create(StringListSchema, { values: ["/hello"] }),
      labels: { [builtInLabel]: "hello" },
    }),
    diffIds: [blob.digest],
  });
  const configBlob = await store.putBytes(lease, configBytes);
  return {
    id: configBlob.digest,
    config: parseImageConfig(configBytes),
    ...(await writeManifest(store, lease, configBlob, [{ blob, compression: undefined }])),
    layers: [{ diffId: blob.digest, digest: blob.digest, size: blob.size }],
    hasLayers: true,
    names: [helloName],
    digests: [],
    events: [],
  };
}

/** An archive with one program. */
export async function tarOfProgram(name: string, content: Buffer): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name, mode: 0o755, mtime: new Date(0), uid: 0, gid: 0 }, content);
  tar.finalize();
  return Buffer.concat((await Array.fromAsync(tar)) as Uint8Array[]);
}
