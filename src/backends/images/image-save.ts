/**
 * `docker save`: images as one tar that is both a docker archive and an OCI layout, structured as by moby v28. Layers
 * are uncompressed, so that every reader of docker archives accepts them, and shared layers are written once.
 * Configurations and layers carry the date of the first image that has them, all else 1970, so that equal images give
 * equal archives.
 */
import { createHash } from "node:crypto";

import { invalid, systemError } from "../../common/errors.ts";
import { getOrInsert } from "../../common/get-or-insert.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ArchivePart } from "../driver/archives.ts";
import type { ContentStore } from "./content-store.ts";
import { hexOf, sha256Of } from "./digest.ts";
import { parseImageConfig } from "./image-config.ts";
import type { ImageIndex } from "./image-index.ts";
import { renderManifest } from "./image-manifest-writer.ts";
import { type LayerBlob, layerBlobs } from "./layer-blobs.ts";
import { decompressed } from "./layer-content.ts";
import { maxJsonBytes, mediaTypes } from "./manifest.ts";
import {
  canonicalString,
  familiarName,
  familiarString,
  type NamedReference,
  parseAny,
  parseNamed,
  withDefaultTag,
  repositoryName,
} from "./reference.ts";
import { directoryHeader, endOfTar, fileHeader, paddingAfter } from "./tar-entries.ts";

/** An image with the names to save it under. */
export interface SavedImage {
  readonly record: ImageRecord;
  readonly names: readonly NamedReference[];
}

/**
 * Resolves the references of a save: a name without a tag stands for all of its tags, another name for itself, and an
 * ID or digest for the image without a name. An image referenced several times is saved once, with all of these names.
 *
 * @param find looks up a reference; throws not-found, invalid
 */
export function imagesToSave(
  index: ImageIndex,
  references: readonly string[],
  find: (reference: string) => ImageRecord,
): SavedImage[] {
  const images = new Map<
    string,
    { readonly record: ImageRecord; readonly names: Map<string, NamedReference> }
  >();
  const add = (record: ImageRecord, named?: NamedReference): void => {
    const image = images.get(record.id) ?? { record, names: new Map() };
    images.set(record.id, image);
    if (named !== undefined) {
      image.names.set(canonicalString(named), named);
    }
  };
  const asked = [...new Set(references)].map((reference) => {
    const parsed = parseAny(reference);
    return { reference, named: parsed.kind === "named" ? parsed.named : undefined };
  });
  const whole = ({ named }: (typeof asked)[number]): string[] =>
    named === undefined || !isNameOnly(named) ? [] : [repositoryName(named)];
  const byRepository = index.taggedIn(new Set(asked.flatMap(whole)));
  for (const each of asked) {
    const { reference, named } = each;
    const tagged = whole(each).flatMap((repository) => byRepository.get(repository) ?? []);
    for (const { record, name } of tagged) {
      find(name); // Throws if it has another platform than requested.
      add(record, parseNamed(name));
    }
    if (tagged.length === 0) {
      const record = find(reference);
      const isByName = named !== undefined && index.named(named) === record && named.digest === undefined;
      add(record, isByName ? withDefaultTag(named) : undefined);
    }
  }
  return [...images.values()].map(({ record, names }) => ({ record, names: [...names.values()] }));
}

function isNameOnly({ tag, digest }: NamedReference): boolean {
  return tag === undefined && digest === undefined;
}

const blobDirectory = "blobs/sha256";

/** Bytes of JSON that are made and written at once, or a little more. */
const pieceBytes = 64 * 1024;

/** A JSON file made item by item, as all of a large one at once would keep everybody waiting. */
class JsonFile {
  readonly #name: string;
  readonly #pieces: Buffer[] = [];
  #text: string;
  #separator = "";

  /** @param start JSON before the items */
  constructor(name: string, start: string) {
    this.#name = name;
    this.#text = start;
  }

  add(item: string): void {
    this.#text += this.#separator + item;
    this.#separator = ",";
    if (this.#text.length >= pieceBytes) {
      this.#flush();
    }
  }

  /** The file's parts. @param end JSON after the items */
  *parts(end: string): Generator<ArchivePart> {
    this.#text += end;
    this.#flush();
    yield* file(this.#name, this.#pieces);
  }

  #flush(): void {
    this.#pieces.push(Buffer.from(this.#text));
    this.#text = "";
  }
}

/** The documents stored beside the blobs. */
interface Documents {
  readonly manifest: JsonFile;
  readonly index: JsonFile;
  /** Members of the objects in the file `repositories`, by the repository's name. */
  readonly repositories: Map<string, string[]>;
}

/** The most bytes that a save keeps of an image until it ends: its part of the documents, and objects. */
export function keptBytes({ record, names }: SavedImage): number {
  const ofNames = names.reduce((sum, named) => sum + 2048 + 4 * canonicalString(named).length, 0);
  return 1024 + 384 * record.diffIds.length + ofNames;
}

/** An image with its layers looked up. */
interface PreparedImage {
  readonly image: SavedImage;
  readonly layers: readonly LayerBlob[];
}

/**
 * Looks up the contents of an archive of images; the caller holds their blobs.
 *
 * @throws conflict: layers that were never fetched; invalid: an image without layers; system: a missing layer
 */
export async function prepareSave(
  store: ContentStore,
  images: readonly SavedImage[],
): Promise<readonly PreparedImage[]> {
  const prepared: PreparedImage[] = [];
  const known = new Map<string, LayerBlob>();
  for (const image of images) {
    if (image.record.diffIds.length === 0) {
      throw invalid("empty export - not implemented");
    }
    prepared.push({ image, layers: await layerBlobs(store, image.record, known) });
  }
  return prepared;
}

/** The parts of an archive of images, in order. */
export async function* archiveParts(
  store: ContentStore,
  prepared: readonly PreparedImage[],
): AsyncGenerator<ArchivePart> {
  const ids = new Set(prepared.map(({ image }) => image.record.id));
  const documents: Documents = {
    manifest: new JsonFile("manifest.json", "["),
    index: new JsonFile(
      "index.json",
      `{"schemaVersion":2,"mediaType":${JSON.stringify(mediaTypes.ociIndex)},"manifests":[`,
    ),
    repositories: new Map(),
  };
  const written = new Set<string>();
  yield part(directoryHeader("blobs"));
  yield part(directoryHeader(blobDirectory));
  for (const { image, layers } of prepared) {
    const config = await store.read(image.record.id, maxJsonBytes);
    const created = Number(parseImageConfig(config).created?.seconds ?? 0n);
    for (const layer of layers) {
      if (!written.has(layer.diffId)) {
        written.add(layer.diffId);
        const { diffId, size, blob } = layer;
        yield part(fileHeader(blobName(diffId), size, created));
        yield { kind: "layer", diffId, size, digest: blob.digest };
        yield part(paddingAfter(size));
      }
    }
    const manifest = renderManifest(
      { digest: image.record.id, size: config.length },
      layers.map(({ diffId, size }) => ({ blob: { digest: diffId, size }, compression: undefined })),
    );
    for (const [bytes, mtime] of [[config, created] as const, [manifest, 0] as const]) {
      const digest = sha256Of(bytes);
      if (!written.has(digest)) {
        written.add(digest);
        yield* file(blobName(digest), [bytes], mtime);
      }
    }
    const { parentId } = image.record;
    describe(documents, image, layers, manifest, ids.has(parentId) ? parentId : undefined);
  }
  yield* documentFiles(documents);
  yield part(endOfTar());
}

function part(bytes: Uint8Array): ArchivePart {
  return { kind: "bytes", bytes };
}

/**
 * Writes an archive; the caller holds its blobs.
 *
 * @throws system: content is damaged
 */
export async function* archiveBytes(
  store: ContentStore,
  parts: AsyncIterable<ArchivePart>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const each of parts) {
    if (each.kind === "bytes") {
      yield each.bytes;
    } else {
      yield* layerTar(store, each, signal);
    }
  }
}

function layerDescriptor({ diffId, size }: LayerBlob): Record<string, unknown> {
  return { mediaType: mediaTypes.ociLayer, digest: diffId, size };
}

/** Adds an image to every document that lists it. */
function describe(
  { manifest: items, index, repositories }: Documents,
  { record, names }: SavedImage,
  layers: readonly LayerBlob[],
  manifest: Uint8Array,
  parentId: string | undefined,
): void {
  const descriptor = { mediaType: mediaTypes.ociManifest, digest: sha256Of(manifest), size: manifest.length };
  const top = hexOf(layers.at(-1)?.diffId ?? "");
  for (const named of names) {
    const tag = named.tag ?? "";
    const tags = getOrInsert(repositories, familiarName(named), () => []);
    tags.push(`${JSON.stringify(tag)}:${JSON.stringify(top)}`);
    const annotations = {
      "io.containerd.image.name": canonicalString(named),
      "org.opencontainers.image.ref.name": tag,
    };
    index.add(JSON.stringify({ ...descriptor, annotations }));
  }
  if (names.length === 0) {
    index.add(JSON.stringify(descriptor));
  }
  items.add(
    JSON.stringify({
      Config: blobName(record.id),
      RepoTags: names.length === 0 ? null : names.map(familiarString),
      Layers: layers.map(({ diffId }) => blobName(diffId)),
      Parent: parentId,
      LayerSources: Object.fromEntries(layers.map((layer) => [layer.diffId, layerDescriptor(layer)])),
    }),
  );
}

function* documentFiles({ manifest, index, repositories }: Documents): Generator<ArchivePart> {
  yield* index.parts("]}");
  yield* manifest.parts("]");
  yield* new JsonFile("oci-layout", '{"imageLayoutVersion":"1.0.0"').parts("}");
  if (repositories.size > 0) {
    const document = new JsonFile("repositories", "{");
    for (const [name, tags] of repositories) {
      document.add(`${JSON.stringify(name)}:{${tags.join(",")}}`);
    }
    yield* document.parts("}");
  }
}

function* file(name: string, content: readonly Uint8Array[], mtime = 0): Generator<ArchivePart> {
  const size = content.reduce((sum, { length }) => sum + length, 0);
  yield part(fileHeader(name, size, mtime));
  yield* content.map(part);
  yield part(paddingAfter(size));
}

/** A layer's tar. A mismatch with the image's layer fails before the archive is complete. */
async function* layerTar(
  store: ContentStore,
  { diffId, digest, size }: Extract<ArchivePart, { kind: "layer" }>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  const { content } = await decompressed(store.stream(digest, signal));
  let length = 0;
  for await (const chunk of content) {
    hash.update(chunk);
    length += chunk.length;
    yield chunk;
  }
  if (length !== size || `sha256:${hash.digest("hex")}` !== diffId) {
    throw systemError(`layer ${diffId} is damaged in the content store`);
  }
}

function blobName(digest: string): string {
  return `${blobDirectory}/${hexOf(digest)}`;
}
