/** Compares unpacked layers with the blobs that they were made of. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, mkdir, readFile, realpath, rename } from "node:fs/promises";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";

import { extract } from "tar-stream";

import { compressionOfFile } from "../backends/images/layer-blobs.ts";
import type { Finding } from "../backends/state/check.ts";
import { isDiskError } from "../backends/state/left-content.ts";
import { errnoOf } from "../common/errors.ts";
import type { ImageRecord } from "../gen/sockerless/state/v1/state_pb.ts";

/** Digits of a diff ID in the name of its directory (docs/formats.md). */
const nameDigits = 24;

/** A regular file of a layer. */
interface Content {
  readonly size: number;
  /** SHA-256, hexadecimal. */
  readonly digest: string;
}

/**
 * Compares each unpacked layer of which there is a whole blob, file by file. Owners, modes and files that only the
 * directory has are not looked at.
 *
 * @param images those of the state
 * @param aside directory for damaged layers; undefined: nothing is changed
 */
export async function checkLayers(
  stateDirectory: string,
  images: readonly ImageRecord[],
  aside: string | undefined,
): Promise<readonly Finding[]> {
  const layers = new Map(
    images.flatMap(({ diffIds, layerDigests }) =>
      diffIds.map((diffId, index) => [diffId, layerDigests[index] ?? ""] as const),
    ),
  );
  const findings: Finding[] = [];
  for (const [diffId, digest] of layers) {
    const name = `layers/${hexOf(diffId).slice(0, nameDigits)}`;
    const blob = path.join(stateDirectory, "blobs/sha256", hexOf(digest));
    const fault = await damageOf(path.join(stateDirectory, name), diffId, blob);
    if (fault !== undefined) {
      findings.push({ what: name, fault, outcome: await putAside(stateDirectory, name, aside) });
    }
  }
  return findings.toSorted((one, other) => one.what.localeCompare(other.what));
}

const hexOf = (digest: string): string => digest.replace(/^sha256:/, "");

async function putAside(stateDirectory: string, name: string, aside: string | undefined): Promise<string> {
  const unpacked = "the next start of a container of it unpacks it anew";
  if (aside === undefined) {
    return `its containers have a damaged file: --repair puts it aside, and ${unpacked}`;
  }
  const target = path.join(aside, name);
  await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
  await rename(path.join(stateDirectory, name), target);
  return `put aside as ${target}: ${unpacked}`;
}

/** The first damage of an unpacked layer; undefined if none is found, it is not there, or nothing whole to compare it with. */
async function damageOf(directory: string, diffId: string, blob: string): Promise<string | undefined> {
  if (!(await isLayer(directory, diffId))) {
    return undefined; // The daemon unpacks it anew, as its record says nothing.
  }
  const contents = await contentsOf(blob);
  const root = path.join(await realpath(directory), "diff");
  for (const [name, content] of contents ?? []) {
    const fault = await damageOfFile(root, name, content);
    if (fault !== undefined) {
      return `is not what its blob holds: ${JSON.stringify(name)} ${fault}`;
    }
  }
  return undefined;
}

async function isLayer(directory: string, diffId: string): Promise<boolean> {
  try {
    const record = JSON.parse(await readFile(path.join(directory, "layer.json"), "utf8")) as unknown;
    return record instanceof Object && "diff_id" in record && record.diff_id === diffId;
  } catch {
    return false;
  }
}

async function damageOfFile(root: string, name: string, content: Content): Promise<string | undefined> {
  const file = path.join(root, name);
  const parent = path.dirname(file);
  try {
    if ((await realpath(parent)) !== parent) {
      return undefined; // A link leads there, maybe out of the layer.
    }
    const status = await lstat(file);
    if (!status.isFile()) {
      return undefined; // A later entry of the blob has taken its place.
    }
    if (status.size !== content.size) {
      return `has ${status.size} bytes in place of ${content.size}`;
    }
    const hash = createHash("sha256");
    await pipeline(createReadStream(file), hash);
    return hash.digest("hex") === content.digest ? undefined : "has other content";
  } catch (error) {
    if (isDiskError(error)) {
      return "cannot be read";
    }
    switch (errnoOf(error)) {
      case "ENOENT":
        return "is missing";
      case "ENOTDIR":
      case "ELOOP":
      case "ENAMETOOLONG":
        return undefined; // A later entry of the blob, maybe a link, has taken its directory's place.
      default:
        throw error;
    }
  }
}

/** The regular files of a layer's blob, the last one of each name; undefined if the blob is not whole, or is not there. */
async function contentsOf(blob: string): Promise<ReadonlyMap<string, Content> | undefined> {
  const contents = new Map<string, Content>();
  const hash = createHash("sha256");
  const hashing = new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      done(undefined, chunk);
    },
  });
  try {
    const tar = extract();
    const reading = pipeline(createReadStream(blob), hashing, ...(await inflaterOf(blob)), tar);
    reading.catch(() => {}); // The loop ends with its error.
    for await (const entry of tar) {
      const { name, type, size = 0, pax } = entry.header;
      const content = createHash("sha256");
      for await (const chunk of entry) {
        content.update(chunk as Buffer);
      }
      const place = path.posix.join("/", name).replace(/\/$/, "").slice(1);
      const isSparse = Object.keys(pax ?? {}).some((key) => key.startsWith("GNU.sparse"));
      const isWhiteout = path.posix.basename(place).startsWith(".wh.");
      if (type === "file" && !isSparse && !isWhiteout) {
        contents.set(place, { size, digest: content.digest("hex") });
      } else {
        contents.delete(place);
      }
    }
    await reading;
  } catch {
    return undefined; // The check of blobs names it.
  }
  return hash.digest("hex") === path.basename(blob) ? contents : undefined;
}

/** Decompresses a blob, by its first bytes; empty: it is a tar. */
async function inflaterOf(blob: string): Promise<readonly Transform[]> {
  switch (await compressionOfFile(blob)) {
    case "gzip":
      return [createGunzip()];
    case "zstd":
      return [createZstdDecompress()];
    default:
      return [];
  }
}
