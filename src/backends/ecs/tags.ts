/**
 * Tags on what this backend makes in AWS: whose it is, and enough to rebuild what a lost state knew of it.
 *
 * A tag's value has at most 256 characters of a small alphabet, so what does not fit in there, labels above all, is
 * written as JSON in base64url, in numbered chunks.
 */

/** What names the volume that an access point is. */
export const volumeTag = "sockerless-volume";
/** What names, on the access point of a directory in a volume, that of the whole volume. */
export const partOfTag = "sockerless-part-of";
/** What names the network that a security group is, by its ID. */
export const networkTag = "sockerless-network";
/** What names the instance of sockerless that made something. */
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

/** What {@link detailsToTags} wrote; undefined where there is none, or somebody has changed it. */
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
