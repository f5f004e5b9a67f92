/** Lists in pages, with opaque tokens. */

/** A page and the token of the next. */
export interface Page<Item> {
  readonly items: Item[];
  readonly next: string | undefined;
}

/**
 * A page of a list.
 *
 * @param token of the page, absent for the first
 * @returns undefined for a token that is none
 */
export function pageOf<Item>(
  all: readonly Item[],
  token: string | undefined,
  size: number,
): Page<Item> | undefined {
  const start = token === undefined ? 0 : offsetOf(token);
  if (start === undefined) {
    return undefined;
  }
  const end = start + size;
  return { items: all.slice(start, end), next: end < all.length ? tokenOf(end) : undefined };
}

function tokenOf(offset: number): string {
  return Buffer.from(`after ${offset}`).toString("base64url");
}

function offsetOf(token: string): number | undefined {
  const digits = /^after (\d+)$/.exec(Buffer.from(token, "base64url").toString())?.[1];
  return digits === undefined ? undefined : Number(digits);
}
