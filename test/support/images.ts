/**
 * Images for tests, made from what this machine has: busybox (Debian's `busybox-static`) and any static binary. Equal
 * input gives equal bytes, so IDs are stable; files are made once and kept below `node_modules/.cache`.
 */
import { execFileSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";

import { checkout } from "../../src/common/built-programs.ts";
import { type TarEntry, tarOf } from "./tar.ts";

/** An image in parts: what every archive and registry of it is made from. */
export interface FixtureImage {
  /** Uncompressed tars, bottom first. */
  readonly layers: readonly Buffer[];
  /** The `config` object: Env, Cmd, … */
  readonly config: Readonly<Record<string, unknown>>;
  readonly architecture?: string;
}

/** A blob by its digest. */
export interface FixtureBlob {
  readonly digest: string;
  readonly bytes: Buffer;
}

/** The names of an image in an archive. */
export interface Tagged {
  readonly image: FixtureImage;
  readonly tags: readonly string[];
  /** The ID of the image that it says it was committed on. */
  readonly parent?: string;
}

const busyboxBinary = "/bin/busybox";
const created = "2025-01-01T00:00:00Z";
const goArchitectures: Readonly<Record<string, string>> = { x64: "amd64" };

/**
 * A Linux with busybox: a shell and its tools as absolute symlinks, users root, daemon, app (1000) and nobody, and a
 * second layer that adds `/etc/os-release` and removes `/etc/obsolete` by a whiteout.
 */
export async function busyboxImage(config: Readonly<Record<string, unknown>> = {}): Promise<FixtureImage> {
  return {
    layers: [await busyboxRootfs(), await tarOf(secondLayer)],
    config: {
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
      Cmd: ["sh"],
      ...config,
    },
  };
}

/** The root file system of busybox as one tar, for `docker import`. */
async function busyboxRootfs(): Promise<Buffer> {
  const applets = execFileSync(busyboxBinary, ["--list"], { encoding: "utf8" })
    .split("\n")
    .filter((applet) => applet !== "" && applet !== "busybox")
    .toSorted();
  return await tarOf([
    ...["bin", "etc", "home", "home/app", "usr", "usr/bin", "var", "var/tmp"].map(directory),
    { ...directory("root"), mode: 0o700 },
    { ...directory("tmp"), mode: 0o1777 },
    { name: "bin/busybox", mode: 0o755, content: await readFile(busyboxBinary) },
    ...applets.map(
      (applet): TarEntry => ({
        name: `bin/${applet}`,
        type: "symlink",
        linkname: "/bin/busybox",
        mode: 0o777,
      }),
    ),
    { name: "etc/passwd", content: passwd },
    { name: "etc/group", content: group },
    { name: "etc/obsolete", content: "of the first layer\n" },
  ]);
}

const passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
`;
const group = `root:x:0:
daemon:x:1:
tty:x:5:app
app:x:1000:
nogroup:x:65534:
`;

const secondLayer: readonly TarEntry[] = [
  directory("etc"),
  { name: "etc/.wh.obsolete" },
  { name: "etc/os-release", content: "ID=sockerless-test\n" },
];

function directory(name: string): TarEntry {
  return { name: `${name}/`, type: "directory" };
}

/** The configuration of an image; its digest is the image's ID. */
export function configBlob(image: FixtureImage): FixtureBlob {
  return blobOf(
    JSON.stringify({
      architecture: image.architecture ?? goArchitectures[process.arch] ?? process.arch,
      config: image.config,
      created,
      history: image.layers.map(() => ({ created })),
      os: "linux",
      rootfs: { type: "layers", diff_ids: image.layers.map((layer) => blobOf(layer).digest) },
    }),
  );
}

/** The ID that an image has wherever it is loaded or pulled. */
export function imageId(image: FixtureImage): string {
  return configBlob(image).digest;
}

/** The OCI manifest of an image. */
export function manifestBlob(image: FixtureImage, layers: readonly Buffer[] = image.layers): FixtureBlob {
  const descriptor = (mediaType: string, { digest, bytes }: FixtureBlob): object => ({
    mediaType,
    digest,
    size: bytes.length,
  });
  const isGzip = (bytes: Buffer): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b;
  return blobOf(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: descriptor("application/vnd.oci.image.config.v1+json", configBlob(image)),
      layers: layers.map((bytes) =>
        descriptor(`application/vnd.oci.image.layer.v1.tar${isGzip(bytes) ? "+gzip" : ""}`, blobOf(bytes)),
      ),
    }),
  );
}

/** Media type of {@link manifestBlob}. */
export const manifestType = "application/vnd.oci.image.manifest.v1+json";

/** Media type of {@link indexBlob}. */
export const indexType = "application/vnd.oci.image.index.v1+json";

/** An index of manifests, each for the architecture of its image. */
export function indexBlob(
  images: readonly FixtureImage[],
  annotations: Readonly<Record<string, string>> = {},
) {
  return blobOf(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: indexType,
      manifests: images.map((image) => {
        const manifest = manifestBlob(image);
        const architecture = image.architecture ?? goArchitectures[process.arch] ?? process.arch;
        return {
          mediaType: manifestType,
          digest: manifest.digest,
          size: manifest.bytes.length,
          platform: { os: "linux", architecture },
          ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
        };
      }),
    }),
  );
}

/** The archive that `docker save` made before it knew OCI: `manifest.json`, configurations and layers. */
export async function dockerArchive(images: readonly Tagged[]): Promise<Buffer> {
  const entries: TarEntry[] = [];
  const manifest: object[] = [];
  for (const { image, tags, parent } of images) {
    const config = configBlob(image);
    const names = image.layers.map((layer) => `${hex(blobOf(layer))}/layer.tar`);
    entries.push({ name: `${hex(config)}.json`, content: config.bytes });
    entries.push(...image.layers.map((content, index) => ({ name: names[index] ?? "", content })));
    manifest.push({ Config: `${hex(config)}.json`, RepoTags: tags, Layers: names, Parent: parent });
  }
  return await tarOf([...entries, { name: "manifest.json", content: JSON.stringify(manifest) }]);
}

/** An OCI image layout of one image. */
export async function ociLayout(image: FixtureImage, name?: string): Promise<Buffer> {
  const annotations = name === undefined ? {} : { "io.containerd.image.name": name };
  const blobs = [manifestBlob(image), configBlob(image), ...image.layers.map((layer) => blobOf(layer))];
  return await tarOf([
    { name: "oci-layout", content: JSON.stringify({ imageLayoutVersion: "1.0.0" }) },
    { name: "index.json", content: indexBlob([image], annotations).bytes },
    ...blobs.map((blob) => ({ name: `blobs/sha256/${hex(blob)}`, content: blob.bytes })),
  ]);
}

/** Bytes or a text with their digest. */
export function blobOf(content: Buffer | string): FixtureBlob {
  const bytes = Buffer.from(content);
  return { bytes, digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}` };
}

function hex(blob: FixtureBlob): string {
  return blob.digest.slice("sha256:".length);
}

/** A file that holds a docker archive of busybox under a name, for `docker load -i`. */
export async function busyboxArchiveFile(tag = "busybox:latest"): Promise<string> {
  return await cachedFile(`busybox-${tag.replaceAll(/[^a-z0-9.]/g, "-")}.tar`, async () =>
    dockerArchive([{ image: await busyboxImage(), tags: [tag] }]),
  );
}

/** A file that holds busybox' root file system, for `docker import`. */
export async function busyboxRootfsFile(): Promise<string> {
  return await cachedFile("busybox-rootfs.tar", busyboxRootfs);
}

/** A file made once for each version of this module and of busybox; a half-written one is never seen. */
async function cachedFile(name: string, make: () => Promise<Buffer>): Promise<string> {
  const version = createHash("sha256")
    .update(await readFile(new URL(import.meta.url)))
    .update(await readFile(busyboxBinary))
    .digest("hex");
  const directory = path.join(checkout, "node_modules/.cache/sockerless-fixtures", version.slice(0, 16));
  const file = path.join(directory, name);
  if (!existsSync(file)) {
    await mkdir(directory, { recursive: true });
    const temporary = `${file}.${randomUUID()}`;
    await writeFile(temporary, await make());
    await rename(temporary, file);
  }
  return file;
}

/** One image of a legacy archive: a layer of its own on top of its parent. */
export interface LegacyStep {
  /** 64 hex digits. */
  readonly id: string;
  readonly parent?: string;
  readonly layer: Buffer;
  /** Further members of its `json`. */
  readonly json?: Readonly<Record<string, unknown>>;
}

/** The archive that `docker save` of Docker 1.9 writes. @param repositories tags of repositories, each with an ID */
export async function legacyArchive(
  steps: readonly LegacyStep[],
  repositories: Readonly<Record<string, Readonly<Record<string, string>>>>,
): Promise<Buffer> {
  return await tarOf([...steps.flatMap(legacyFolder), legacyTags(repositories)]);
}

/** The entries of a folder of a legacy archive. */
export function legacyFolder({ id, parent, layer, json }: LegacyStep): TarEntry[] {
  const config = {
    id,
    parent,
    created: "2015-11-03T20:15:39.120304000Z",
    container_config: { Cmd: ["/bin/sh", "-c", `#(nop) ADD ${id.slice(0, 4)} & more`] },
    docker_version: "1.9.1",
    config: { Env: ["PATH=/bin"], Cmd: ["sh"], Labels: { step: id.slice(0, 4) } },
    architecture: "amd64",
    os: "linux",
    ...json,
  };
  return [
    { name: `${id}/`, type: "directory" },
    { name: `${id}/VERSION`, content: "1.0" },
    { name: `${id}/json`, content: JSON.stringify(config) },
    { name: `${id}/layer.tar`, content: layer },
  ];
}

/** The entry of a legacy archive that names tags. */
export function legacyTags(repositories: unknown): TarEntry {
  return { name: "repositories", content: `${JSON.stringify(repositories)}\n` };
}
