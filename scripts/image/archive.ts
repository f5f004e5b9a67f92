/**
 * Writing an image as an OCI archive (a tar of an OCI image layout) that `docker load` understands too: it also names its
 * blobs in a `manifest.json`. The same files give the same bytes, whenever and wherever the archive is written.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";

import { pack as createPack, type Pack } from "tar-stream";

/** A file of a layer; its path has no leading slash. */
export type ImageFile = {
  readonly path: string;
  readonly mode: number;
  /** User and group; 0 unless said. */
  readonly owner?: number;
} & (
  | { readonly source: string }
  | { readonly content: string }
  | { readonly link: string }
  | { readonly directory: true }
);

export interface Layer {
  /** Said in the image's history. */
  readonly comment: string;
  readonly files: readonly ImageFile[];
}

export interface ArchiveOptions {
  readonly output: string;
  /** `name:tag`. */
  readonly reference: string;
  readonly gzipLevel: number;
  readonly layers: readonly Layer[];
  /** `config` of the image's configuration. */
  readonly config: Readonly<Record<string, unknown>>;
}

interface Blob {
  readonly digest: string;
  readonly size: number;
}

/** A time that says nothing: archives of the same files are the same. */
const epoch = new Date(0);
const architectures: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };
const mediaTypes = {
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar+gzip",
  manifest: "application/vnd.oci.image.manifest.v1+json",
} as const;

/**
 * Writes the archive; it appears under its name only when it is whole.
 *
 * @returns the manifest's digest
 */
export async function writeArchive(options: ArchiveOptions): Promise<string> {
  const output = resolve(options.output);
  const scratch = await mkdtemp(join(dirname(output), ".sockerless-image-"));
  try {
    const layers = await Promise.all(
      options.layers.map(({ files }, index) =>
        writeLayer(join(scratch, `${index}`), files, options.gzipLevel),
      ),
    );
    const platform = { architecture: architectures[process.arch] ?? process.arch, os: "linux" };
    const config = jsonBlob({
      ...platform,
      created: epoch.toISOString(),
      config: options.config,
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
      history: options.layers.map(({ comment }) => ({ created: epoch.toISOString(), comment })),
    });
    const manifest = jsonBlob({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: { mediaType: mediaTypes.config, digest: config.digest, size: config.size },
      layers: layers.map(({ digest, size }) => ({ mediaType: mediaTypes.layer, digest, size })),
    });
    const index = {
      schemaVersion: 2,
      manifests: [
        {
          mediaType: mediaTypes.manifest,
          digest: manifest.digest,
          size: manifest.size,
          platform,
          annotations: {
            "io.containerd.image.name": `docker.io/library/${options.reference}`,
            "org.opencontainers.image.ref.name": options.reference.split(":").at(-1),
          },
        },
      ],
    };
    const docker = [
      {
        Config: blobPath(config),
        RepoTags: [options.reference],
        Layers: layers.map(blobPath),
      },
    ];
    const archive = createPack();
    const whole = join(scratch, "archive");
    await Promise.all([
      pipeline(archive, createWriteStream(whole)),
      (async () => {
        for (const path of ["blobs", "blobs/sha256"]) {
          await addFile(archive, { path, mode: 0o755, directory: true });
        }
        for (const blob of [config, manifest]) {
          await addFile(archive, { path: blobPath(blob), mode: 0o644, content: blob.content });
        }
        for (const layer of layers) {
          await addFile(archive, { path: blobPath(layer), mode: 0o644, source: layer.file });
        }
        for (const [path, content] of [
          ["index.json", JSON.stringify(index)],
          ["manifest.json", JSON.stringify(docker)],
          ["oci-layout", JSON.stringify({ imageLayoutVersion: "1.0.0" })],
        ] as const) {
          await addFile(archive, { path, mode: 0o644, content });
        }
        archive.finalize();
      })(),
    ]);
    await rename(whole, output);
    return manifest.digest;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

interface WrittenLayer extends Blob {
  readonly file: string;
  /** Digest of the layer before compression. */
  readonly diffId: string;
}

async function writeLayer(
  file: string,
  files: readonly ImageFile[],
  gzipLevel: number,
): Promise<WrittenLayer> {
  const pack = createPack();
  const plain = new Hashing();
  const compressed = new Hashing();
  const writing = pipeline(
    pack,
    plain,
    createGzip({ level: gzipLevel }),
    compressed,
    createWriteStream(file),
  );
  const adding = (async () => {
    for (const each of files) {
      await addFile(pack, each);
    }
    pack.finalize();
  })();
  await Promise.all([writing, adding]);
  return { file, digest: compressed.digest, size: compressed.size, diffId: plain.digest };
}

async function addFile(pack: Pack, file: ImageFile): Promise<void> {
  const owner = file.owner ?? 0;
  const header = { name: file.path, mode: file.mode, mtime: epoch, uid: owner, gid: owner };
  if ("directory" in file || "link" in file) {
    const special =
      "link" in file
        ? ({ ...header, type: "symlink", linkname: file.link } as const)
        : ({ ...header, name: `${file.path}/`, type: "directory" } as const);
    await added((done) => pack.entry(special, done));
  } else if ("content" in file) {
    await added((done) => pack.entry(header, file.content, done));
  } else {
    const { size } = await stat(file.source);
    await pipeline(createReadStream(file.source), pack.entry({ ...header, size }));
  }
}

function added(add: (done: (error?: Error | null) => void) => void): Promise<void> {
  return new Promise((resolveAdded, reject) => {
    add((error) => (error ? reject(error) : resolveAdded()));
  });
}

/** Passes bytes on, and knows their digest and number at the end. */
class Hashing extends Transform {
  readonly #hash = createHash("sha256");
  size = 0;

  override _transform(
    chunk: Buffer,
    _encoding: BufferEncoding,
    done: (error: Error | null, chunk: Buffer) => void,
  ): void {
    this.#hash.update(chunk);
    this.size += chunk.length;
    done(null, chunk);
  }

  get digest(): string {
    return `sha256:${this.#hash.copy().digest("hex")}`;
  }
}

function jsonBlob(value: unknown): Blob & { readonly content: string } {
  const content = JSON.stringify(value);
  return {
    content,
    digest: `sha256:${createHash("sha256").update(content).digest("hex")}`,
    size: Buffer.byteLength(content),
  };
}

function blobPath({ digest }: Blob): string {
  return `blobs/${digest.replace(":", "/")}`;
}
