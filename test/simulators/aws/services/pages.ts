/** Lists in pages, with opaque tokens. */
import { AwsFault } from "../wire/service.ts";

/** A page and the token of the next. */
interface Page<Item> {
  readonly items: Item[];
  readonly next: string | undefined;
}

/**
 * Cuts pages for a service's lists.
 *
 * @param refusal the service's code for a token that is none, or for too large a page
 * @param defaultSize entries where the request names no number
 */
export function pagesOf(refusal: string, defaultSize: number, most = 1000) {
  return <Item>(all: readonly Item[], token: string | undefined, size = defaultSize): Page<Item> => {
    const start = token === undefined ? 0 : offsetOf(token);
    if (start === undefined || size < 1 || size > most) {
      throw new AwsFault(refusal, "Invalid token or size of a page.");
    }
    const end = start + size;
    return { items: all.slice(start, end), next: end < all.length ? tokenOf(end) : undefined };
  };
}

function tokenOf(offset: number): string {
  return Buffer.from(`after ${offset}`).toString("base64url");
}

function offsetOf(token: string): number | undefined {
  const digits = /^after (\d+)$/.exec(Buffer.from(token, "base64url").toString())?.[1];
  return digits === undefined ? undefined : Number(digits);
}
