/** Manifests and indices of images: the OCI image specification and Docker's schema 2, read with a schema. */
import { z } from "zod";

import { openMap } from "../../../common/open-map.ts";
import { invalid, messageOf } from "../../../common/errors.ts";
import { isSha256Digest } from "./digest.ts";

/** The largest manifest, index or image configuration that is read, in bytes. */
export const maxJsonBytes = 4 * 1024 ** 2;

/** Media types by what they describe. */
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

/** Media types that a registry is asked for, in this order. */
export const acceptedManifests: readonly string[] = [
  mediaTypes.dockerManifest,
  mediaTypes.dockerList,
  mediaTypes.ociIndex,
  mediaTypes.ociManifest,
];

const descriptorSchema = z.object({
  mediaType: z.string().default(""),
  digest: z.string().refine(isSha256Digest, "unsupported digest algorithm"),
  size: z.int().nonnegative(),
  annotations: openMap(z.string()).nullish(),
  platform: z
    .object({
      os: z.string().default(""),
      architecture: z.string().default(""),
      variant: z.string().nullish(),
    })
    .nullish(),
});

const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().nullish(),
  config: descriptorSchema,
  layers: z.array(descriptorSchema).max(4096),
});

const indexSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().nullish(),
  manifests: z.array(descriptorSchema).max(4096),
});

/** A reference by digest from one document to another blob. */
export type Descriptor = z.output<typeof descriptorSchema>;
/** One image: its configuration and its layers, bottom first. */
export type ImageManifest = z.output<typeof manifestSchema>;
/** Several images, told apart by platform. */
export type ImageIndexDocument = z.output<typeof indexSchema>;

/** A manifest or an index, with the media type that it has. */
export type ManifestDocument =
  | { readonly kind: "manifest"; readonly mediaType: string; readonly manifest: ImageManifest }
  | { readonly kind: "index"; readonly mediaType: string; readonly index: ImageIndexDocument };

/**
 * Reads a manifest or an index.
 *
 * @param claimedType what the server or the descriptor calls it; the document's own word comes first
 * @throws SockerlessError of kind `invalid`: malformed, or of a kind that is no image
 */
export function parseManifest(bytes: Uint8Array, claimedType: string): ManifestDocument {
  const json = parseJson(bytes, "manifest");
  const head = z
    .object({
      schemaVersion: z.unknown().optional(),
      mediaType: z.string().nullish(),
      manifests: z.unknown().optional(),
    })
    .safeParse(json);
  if (!head.success) {
    throw invalid("unsupported manifest format");
  }
  const claimed = claimedType.split(";")[0]?.trim() ?? "";
  const mediaType = head.data.mediaType ?? claimed;
  if (
    head.data.schemaVersion === 1 ||
    mediaType.startsWith(mediaTypes.dockerSchema1.slice(0, -"+json".length))
  ) {
    throw invalid(
      "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed." +
        " More information at https://docs.docker.com/go/deprecated-image-specs/",
    );
  }
  if (mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerList) {
    return { kind: "index", mediaType, index: check(indexSchema, json, "manifest list") };
  }
  if (mediaType === mediaTypes.ociManifest || mediaType === mediaTypes.dockerManifest) {
    return { kind: "manifest", mediaType, manifest: check(manifestSchema, json, "manifest") };
  }
  // An OCI document may leave its media type out; then the fields tell.
  return head.data.manifests === undefined
    ? {
        kind: "manifest",
        mediaType: mediaTypes.ociManifest,
        manifest: check(manifestSchema, json, "manifest"),
      }
    : { kind: "index", mediaType: mediaTypes.ociIndex, index: check(indexSchema, json, "manifest list") };
}

/** Refuses the media type of a layer or configuration that belongs to no image but to an artifact of another kind. */
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

/** Parses JSON from untrusted bytes; `what` names the document in the error. */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid(`invalid ${what}: ${messageOf(error)}`, error);
  }
}

/** Checks a JSON value against a schema; the error names the document and the first place that is wrong. */
export function check<Schema extends z.ZodType>(
  schema: Schema,
  json: unknown,
  what: string,
): z.output<Schema> {
  const result = schema.safeParse(json);
  if (result.success) {
    return result.data;
  }
  const issue = result.error.issues[0];
  const place = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`;
  throw invalid(`invalid ${what}${place}: ${issue?.message ?? "malformed"}`);
}
