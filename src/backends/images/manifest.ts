/** Manifests and indexes of images: the OCI image specification and Docker's schema 2. */
import * as v from "valibot";

import { listOfAtMost, object, openMap, read, type Schema, size } from "../../common/documents.ts";
import { invalid, messageOf } from "../../common/errors.ts";
import { sizeOfJson } from "../../common/json-values.ts";
import { isSha256Digest } from "./digest.ts";

/** Size limit for a manifest, index or image configuration, in bytes. */
export const maxJsonBytes = 4 * 1024 ** 2;

/** Media types by meaning. */
export const mediaTypes = {
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerSchema1: "application/vnd.docker.distribution.manifest.v1+json",
  dockerSignedSchema1: "application/vnd.docker.distribution.manifest.v1+prettyjws",
} as const;

/** Media types requested from registries, in this order. */
export const acceptedManifests: readonly string[] = [
  mediaTypes.dockerManifest,
  mediaTypes.dockerList,
  mediaTypes.ociIndex,
  mediaTypes.ociManifest,
];

const descriptorSchema = object({
  mediaType: v.optional(v.string(), ""),
  digest: v.pipe(v.string(), v.check(isSha256Digest, "unsupported digest algorithm")),
  size,
  annotations: v.nullish(openMap(v.string())),
  platform: v.nullish(
    object({
      os: v.optional(v.string(), ""),
      architecture: v.optional(v.string(), ""),
      variant: v.nullish(v.string()),
    }),
  ),
});

const descriptors = listOfAtMost(4096, descriptorSchema);

const manifestSchema = object({
  schemaVersion: v.literal(2),
  mediaType: v.nullish(v.string()),
  config: descriptorSchema,
  layers: descriptors,
});

const indexSchema = object({
  schemaVersion: v.literal(2),
  mediaType: v.nullish(v.string()),
  manifests: descriptors,
});

/** The members that determine a document's kind. */
const headSchema = object({
  schemaVersion: v.unknown(),
  mediaType: v.nullish(v.string()),
  config: v.unknown(),
  layers: v.unknown(),
  manifests: v.unknown(),
});

/** A reference by digest from a document to another blob. */
export type Descriptor = v.InferOutput<typeof descriptorSchema>;
/** An image: its configuration and its layers, bottom first. */
export type ImageManifest = v.InferOutput<typeof manifestSchema>;
/** Several images for different platforms. */
export type ImageIndexDocument = v.InferOutput<typeof indexSchema>;

/** A manifest or an index, with its media type. */
export type ManifestDocument =
  | { readonly kind: "manifest"; readonly mediaType: string; readonly manifest: ImageManifest }
  | { readonly kind: "index"; readonly mediaType: string; readonly index: ImageIndexDocument };

const kindByType: ReadonlyMap<string, ManifestDocument["kind"]> = new Map([
  [mediaTypes.ociIndex, "index"],
  [mediaTypes.dockerList, "index"],
  [mediaTypes.ociManifest, "manifest"],
  [mediaTypes.dockerManifest, "manifest"],
]);

/**
 * Parses a manifest or an index. A document that can be read as either is rejected (CVE-2021-41190): its digest would
 * identify two images.
 *
 * @param claimedType media type from the server or descriptor; the document's own takes precedence
 * @param most values, lists and objects in it; default: {@link mostValues}
 * @throws SockerlessError of kind `invalid`: malformed, or not an image
 */
export function parseManifest(bytes: Uint8Array, claimedType: string, most?: number): ManifestDocument {
  const json = parseJson(bytes, "manifest", most);
  const { value: head } = read(headSchema, json);
  if (head === undefined) {
    throw invalid("unsupported manifest format");
  }
  const names = [head.mediaType ?? "", claimedType.split(";")[0]?.trim() ?? ""];
  const named = head.mediaType ?? names[1] ?? "";
  if (head.schemaVersion === 1 || named.startsWith(mediaTypes.dockerSchema1.slice(0, -"+json".length))) {
    throw invalid(
      "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed." +
        " More information at https://docs.docker.com/go/deprecated-image-specs/",
    );
  }
  const kinds = kindsOf(head, names);
  if (kinds.size > 1) {
    throw invalid("invalid manifest: it can be read as an image and as an index of images");
  }
  const mediaType = names.find((name) => kindByType.has(name));
  return kinds.has("index")
    ? {
        kind: "index",
        mediaType: mediaType ?? mediaTypes.ociIndex,
        index: check(indexSchema, json, "manifest list"),
      }
    : {
        kind: "manifest",
        mediaType: mediaType ?? mediaTypes.ociManifest,
        manifest: check(manifestSchema, json, "manifest"),
      };
}

/** The kinds that a document's members and media types indicate; an OCI document may omit its own type. */
function kindsOf(
  head: v.InferOutput<typeof headSchema>,
  names: readonly string[],
): ReadonlySet<ManifestDocument["kind"]> {
  const isThere = (member: unknown): boolean => member !== undefined && member !== null;
  const kinds = new Set(names.flatMap((name) => kindByType.get(name) ?? []));
  if (isThere(head.manifests)) {
    kinds.add("index");
  }
  if (isThere(head.config) || isThere(head.layers)) {
    kinds.add("manifest");
  }
  return kinds;
}

/** Rejects the media type of a layer or configuration of other artifacts than images. */
export function checkImageMediaType(mediaType: string): void {
  const lower = mediaType.toLowerCase();
  if (lower === "application/vnd.docker.plugin.v1+json") {
    throw invalid(`Encountered remote "${mediaType}"(plugin) when fetching`);
  }
  if (lower.startsWith("application/vnd.docker.ai.")) {
    throw invalid(
      'AI models are not yet supported by the Engine, please use "docker model pull/run" instead',
    );
  }
  const exact = ["", "application/octet-stream", "application/json", "text/html"];
  const families = ["application/vnd.oci.image.", "application/vnd.docker."];
  if (!exact.includes(lower) && !families.some((family) => lower.startsWith(family))) {
    throw invalid(`unsupported media type ${mediaType}`);
  }
}

/** The most values, lists and objects in a document of a registry: labels are in each list of images. */
export const mostValues = 20_000;

/** The most in a list of an archive's images. */
export const mostListValues = 50_000;

/** No limit: for documents whose values were counted before, as those of an archive and of images that are here. */
export const anyValues = Number.POSITIVE_INFINITY;

/**
 * Parses JSON from untrusted bytes; the error calls the document `what`.
 *
 * @param most values, lists and objects in it
 * @throws SockerlessError of kind `invalid`
 */
export function parseJson(bytes: Uint8Array, what: string, most = mostValues): unknown {
  if (most !== anyValues && sizeOfJson(bytes).total > most) {
    throw invalid(`invalid ${what}: more than ${most} values, lists and objects`);
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid(`invalid ${what}: ${messageOf(error)}`, error);
  }
}

/** Checks a JSON value against a schema; the error has the document's name and the first mismatch. */
export function check<Output>(schema: Schema<Output>, json: unknown, what: string): Output {
  const { value, misfit } = read(schema, json);
  if (misfit !== undefined) {
    throw invalid(`invalid ${what}${misfit.place && ` at ${misfit.place}`}: ${misfit.message}`);
  }
  return value;
}
