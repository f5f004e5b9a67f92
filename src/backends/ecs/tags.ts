/**
 * Tags on the resources that this backend makes in AWS: they name the instance, and hold enough to rebuild the records
 * of a lost state.
 *
 * A tag's value has at most 256 characters of a small alphabet, so details that do not fit, labels above all, are
 * written as JSON in base64url, in numbered chunks.
 */

/** Key of the tag that names the volume of an access point. */
export const volumeTag = "sockerless-volume";
/** Key of the tag by which the access point of a directory in a volume names that of the whole volume. */
export const partOfTag = "sockerless-part-of";
/** Key of the tag that names the network of a security group, by its ID. */
export const networkTag = "sockerless-network";
/** Key of the tag that names the instance of sockerless that made something. */
export const instanceTag = "sockerless-instance";
const detailsTag = "sockerless-details";

const longestValue = 256;
/** AWS allows 50 tags a resource; ours beside these are few, and an administrator's have room. */
const mostChunks = 36;

/** One tag, as most of AWS's services write it. */
export interface Tag {
  readonly Key?: string | undefined;
  readonly Value?: string | undefined;
}

/** A tag that is written. */
export interface WrittenTag {
  readonly Key: string;
  readonly Value: string;
}

/**
 * A value that JSON can hold, as tags.
 *
 * @returns undefined where it is too long
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

/** Reads the value that {@link detailsToTags} wrote; undefined: there is none, or somebody has changed it. */
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

/** The value of a tag; undefined where there is none. */
export function tagValue(tags: readonly Tag[], key: string): string | undefined {
  return tags.find((tag) => tag.Key === key)?.Value;
}
