/**
 * The built-in image `sockerless/hello`: one static binary that greets, so that the first `docker run` needs no
 * registry. It is made anew at each start where it is missing, also where a user removed it; a name that a user has
 * given to another image is left alone. Equal binaries give equal IDs.
 */
import { readFile } from "node:fs/promises";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { pack } from "tar-stream";

import { ContainerConfigSchema, StringListSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { parseImageConfig, renderImageConfig } from "./image-config.ts";
import type { ImageToInstall } from "./image-installer.ts";
import { writeManifest } from "./image-manifest-writer.ts";
import { hostPlatform } from "./platform.ts";
import { canonicalString, parseNamed } from "./reference.ts";

/** The full name of the built-in image. */
export const helloName = canonicalString(parseNamed("sockerless/hello:latest"));

/** The label by which images of earlier versions are known as ours. */
export const builtInLabel = "sockerless.built-in";

/** Part of the ID, so not the time of the build. */
const created = Date.UTC(2025, 0, 1);

/** Writes the image of a binary into the store. */
export async function makeHelloImage(
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

async function tarOfProgram(name: string, content: Buffer): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name, mode: 0o755, mtime: new Date(0), uid: 0, gid: 0 }, content);
  tar.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of tar) {
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks);
}
