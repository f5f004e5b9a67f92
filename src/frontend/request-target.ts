/** The path and query of a request line. */
import { invalid } from "../common/errors.ts";

/** A request target, taken apart. */
export interface RequestTarget {
  /** Decoded; begins with a slash. */
  readonly path: string;
  readonly query: URLSearchParams;
}

/**
 * Takes a request target apart. Nothing is normalised: `..` and double slashes stand for themselves, they are parts of
 * names that simply will not be found.
 *
 * @param target as in the request line, `/v1.51/images/a%2Fb/json?x=1`; proxies send it with scheme and host
 * @throws SockerlessError of kind `invalid` where percent signs are misused
 */
export function parseRequestTarget(target: string): RequestTarget {
  const relative = target.replace(/^https?:\/\/[^/?]*/i, "");
  const mark = relative.indexOf("?");
  const rawPath = mark < 0 ? relative : relative.slice(0, mark);
  const query = new URLSearchParams(mark < 0 ? "" : relative.slice(mark + 1));
  try {
    return { path: decodeURIComponent(rawPath === "" ? "/" : rawPath), query };
  } catch (error) {
    throw invalid(`invalid URL escape in ${JSON.stringify(rawPath)}`, error);
  }
}
