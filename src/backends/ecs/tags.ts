/**
 * Tags on this backend's resources in AWS: they name the instance, and suffice to rebuild the records of a lost state.
 *
 * A tag's value has at most 256 characters of a small alphabet, so details that do not fit, mostly labels, are written
 * as JSON in base64url, in numbered chunks.
 */

/** Key of the tag that names the volume of an access point. */
export const volumeTag = "sockerless-volume";
/** Key of the tag by which the access point of a subpath refers to that of the whole volume. */
export const partOfTag = "sockerless-part-of";
/** Key of the tag with a security group's network, by ID. */
export const networkTag = "sockerless-network";
/** Key of the tag with the instance of sockerless that created a resource. */
export const instanceTag = "sockerless-instance";
const detailsTag = "sockerless-details";

const longestValue = 256;
/** AWS allows 50 tags per resource; this leaves room for our few others, and for an administrator's. */
const mostChunks = 36;

/** One tag in the form of most of AWS's services. */
export interface Tag {
  readonly Key?: string | undefined;
  readonly Value?: string | undefined;
}

/** A tag to write. */
export interface WrittenTag {
  readonly Key: string;
  readonly Value: string;
}

/**
 * Encodes a JSON value as tags.
 *
 * @returns undefined if it is too long
 */
export function detailsToTags(details: unknown): WrittenTag[] | undefined {
  const text = Buffer.from(JSON.stringify(details)).toString("base64url");
  const chunks = Math.ceil(text.length / longestValue);
  if (chunks > mostChunks) {
    return undefined;
  }
  return Array.from({ length: chunks }, (_, index) => ({
    Key: `${detailsTag}-${index}`,
    Value: text.slice(index * longestValue, (index + 1) * longestValue),
  }));
}

/** Decodes the value of {@link detailsToTags}; undefined if there is none, or somebody has changed it. */
export function detailsOfTags(tags: readonly Tag[]): unknown {
  const parts: string[] = [];
  for (let index = 0; ; index++) {
    const part = tagValue(tags, `${detailsTag}-${index}`);
    if (part === undefined) {
      break;
    }
    parts.push(part);
  }
  if (parts.length === 0) {
    return undefined;
  }
  try {
    return JSON.parse(Buffer.from(parts.join(""), "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
}

/** The value of a tag; undefined if it is missing. */
export function tagValue(tags: readonly Tag[], key: string): string | undefined {
  return tags.find((tag) => tag.Key === key)?.Value;
}
