/** Versions of the Engine API. */
import { invalid } from "../common/errors.ts";

/** A version of the Engine API as it stands in a path, without the `v`. */
export type ApiVersionText = `1.${number}`;

/** The newest version that is spoken; requests without a version get it. */
export const maximumApiVersion: ApiVersionText = "1.51";
/** The oldest version that is accepted. */
export const minimumApiVersion: ApiVersionText = "1.24";
/** Release of moby that behaves as this API does; clients compare it with the oldest one that they support. */
export const mobyVersion = "28.5.2";

/** The version that one request is made in. */
export class ApiVersion {
  /** As the client wrote it (`1.41`). */
  readonly text: string;
  readonly #parts: readonly number[];

  constructor(text: string) {
    this.text = text;
    this.#parts = partsOf(text);
  }

  /** True if this is the named version or a newer one. */
  atLeast(other: ApiVersionText): boolean {
    return compareParts(this.#parts, partsOf(other)) >= 0;
  }

  /** True if this is older than the named version. */
  before(other: ApiVersionText): boolean {
    return !this.atLeast(other);
  }
}

/**
 * The version that a path asks for.
 *
 * @param text what stood between `/v` and the next slash; undefined: no version prefix
 * @throws SockerlessError of kind `invalid` in dockerd's words, which clients match on to negotiate downwards
 */
export function negotiateApiVersion(text: string | undefined): ApiVersion {
  const version = new ApiVersion(text ?? maximumApiVersion);
  if (version.before(minimumApiVersion)) {
    throw invalid(
      `client version ${version.text} is too old. Minimum supported API version is ${minimumApiVersion}, please upgrade your client to a newer version`,
    );
  }
  if (!new ApiVersion(maximumApiVersion).atLeast(version.text as ApiVersionText)) {
    throw invalid(
      `client version ${version.text} is too new. Maximum supported API version is ${maximumApiVersion}`,
    );
  }
  return version;
}

function partsOf(text: string): number[] {
  return text.split(".").map((part) => Number.parseInt(part, 10) || 0);
}

function compareParts(left: readonly number[], right: readonly number[]): number {
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return 0;
}
