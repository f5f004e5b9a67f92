/** The OCI image layout: `index.json` lists manifests; all blobs are under `blobs/sha256`. */
import { invalid } from "../../common/errors.ts";
import type { ArchiveFiles } from "./archive-reader.ts";
import { type ArchiveContext, type ArchivedImage, refuseTooManyImages } from "./archived-image.ts";
import type { StoredBlob } from "./content-store.ts";
import { hexOf } from "./digest.ts";
import { parseNewImageConfig } from "./image-config.ts";
import {
  anyValues,
  checkImageMediaType,
  type Descriptor,
  type ImageManifest,
  type ManifestDocument,
  parseManifest,
} from "./manifest.ts";
import { choosePlatform } from "./platform-choice.ts";
import { canonicalString, parseNamed, withDefaultTag } from "./reference.ts";

/** Limit for nested indexes. */
const maxDepth = 4;

/** A selected manifest, with the name from its top descriptor. */
interface ChosenManifest {
  readonly blob: StoredBlob;
  readonly mediaType: string;
  readonly manifest: ImageManifest;
  readonly name: string | undefined;
}

/**
 * The images of an OCI layout: for every entry of `index.json`, the manifest that best fits the platform.
 *
 * @throws SockerlessError of kind `invalid`
 */
export async function readOciLayout(
  files: ArchiveFiles,
  indexBlob: StoredBlob,
  context: ArchiveContext,
): Promise<ArchivedImage[]> {
  const document = parseManifest(await context.readDocument(indexBlob), "", anyValues);
  if (document.kind !== "index") {
    throw invalid("invalid archive: index.json is not an image index");
  }
  const chosen = new Map<string, ChosenManifest>();
  const descriptors = onePerName(document.index.manifests, context);
  refuseTooManyImages(descriptors.length);
  for (const descriptor of descriptors) {
    const found = await follow(files, descriptor, context, maxDepth);
    if (found !== undefined) {
      const name = nameOf(descriptor);
      chosen.set(`${found.blob.digest} ${name ?? ""}`, { ...found, name });
    }
  }
  const images = new Map<string, ArchivedImage>();
  for (const each of chosen.values()) {
    const known = images.get(each.blob.digest);
    const names = each.name === undefined ? [] : [each.name];
    images.set(
      each.blob.digest,
      known === undefined
        ? { ...(await readImage(files, each, context)), names }
        : { ...known, names: [...known.names, ...names] },
    );
  }
  return [...images.values()];
}

/** Entries with the same name are one image for several platforms; each nameless entry is a separate image. */
function onePerName(descriptors: readonly Descriptor[], context: ArchiveContext): Descriptor[] {
  const groups = Map.groupBy(descriptors, (descriptor) => nameOf(descriptor) ?? descriptor.digest);
  return [...groups.values()].flatMap((group) => {
    const best = choosePlatform(group, context.platform);
    return best === undefined ? [] : [best];
  });
}

async function follow(
  files: ArchiveFiles,
  descriptor: Descriptor,
  context: ArchiveContext,
  depth: number,
): Promise<Omit<ChosenManifest, "name"> | undefined> {
  const { blob, document } = await readDocument(files, descriptor, context);
  if (document.kind === "manifest") {
    return { blob, mediaType: document.mediaType, manifest: document.manifest };
  }
  if (depth === 0) {
    throw invalid("invalid archive: too many nested indices");
  }
  const best = choosePlatform(document.index.manifests, context.platform);
  return best === undefined ? undefined : await follow(files, best, context, depth - 1);
}

async function readDocument(
  files: ArchiveFiles,
  descriptor: Descriptor,
  context: ArchiveContext,
): Promise<{ readonly blob: StoredBlob; readonly document: ManifestDocument }> {
  const blob = blobOf(files, descriptor);
  return { blob, document: parseManifest(await context.readDocument(blob), descriptor.mediaType) };
}

async function readImage(
  files: ArchiveFiles,
  { blob, mediaType, manifest }: ChosenManifest,
  context: ArchiveContext,
): Promise<ArchivedImage> {
  for (const descriptor of [manifest.config, ...manifest.layers]) {
    checkImageMediaType(descriptor.mediaType);
  }
  const configBlob = blobOf(files, manifest.config);
  const config = parseNewImageConfig(await context.readDocument(configBlob));
  if (manifest.layers.length !== config.diffIds.length) {
    throw invalid(
      "invalid manifest, layers length mismatch: " +
        `expected ${manifest.layers.length}, got ${config.diffIds.length}`,
    );
  }
  return {
    config,
    configBlob,
    layers: manifest.layers.map((layer) => blobOf(files, layer)),
    names: [],
    manifest: { manifestDigest: blob.digest, manifestMediaType: mediaType },
  };
}

/** The file of a descriptor; checks its content against the digest, whatever its name. */
function blobOf(files: ArchiveFiles, descriptor: Descriptor): StoredBlob {
  const blob = files.get(`blobs/sha256/${hexOf(descriptor.digest)}`);
  if (blob.digest !== descriptor.digest || blob.size !== descriptor.size) {
    throw invalid(
      `invalid archive: content of blob ${descriptor.digest} is ${blob.digest} (${blob.size} bytes)`,
    );
  }
  return blob;
}

/** The name in a descriptor; a bare tag, as some tools write it, does not count. */
function nameOf(descriptor: Descriptor): string | undefined {
  const full = descriptor.annotations?.["io.containerd.image.name"];
  const short = descriptor.annotations?.["org.opencontainers.image.ref.name"];
  const text = full ?? (short !== undefined && /[:/]/.test(short) ? short : undefined);
  if (text === undefined) {
    return undefined;
  }
  const named = withDefaultTag(parseNamed(text));
  return canonicalString({ ...named, digest: undefined });
}
