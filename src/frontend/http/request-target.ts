/** The request target (path and query) and the Host header of a request. */
import type { IncomingMessage } from "node:http";

import { invalid } from "../../common/errors.ts";

/** The most parameters of a query: reading a mebibyte of empty ones takes seconds. */
const maxParameters = 4096;

/** A host as Go's server takes it: characters of names and addresses, escapes, and none at all. */
const hostForm = /^[\w!$%&'()*+,\-.:;=[\]~]*$/;

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
 * @throws SockerlessError of kind `invalid` where percent signs are misused; `query` throws it where it has more than
 *   {@link maxParameters} of them
 */
export function parseRequestTarget(target: string): RequestTarget {
  const relative = target.replace(/^https?:\/\/[^/?]*/i, "");
  const mark = relative.indexOf("?");
  const rawPath = mark < 0 ? relative : relative.slice(0, mark);
  let query: URLSearchParams | undefined;
  try {
    return {
      path: decodeURIComponent(rawPath === "" ? "/" : rawPath),
      // The query is parsed only when it is asked for: it may be a mebibyte.
      get query() {
        query ??= queryOf(mark < 0 ? "" : relative.slice(mark + 1));
        return query;
      },
    };
  } catch (error) {
    throw invalid(`invalid URL escape in ${JSON.stringify(rawPath)}`, error);
  }
}

function queryOf(source: string): URLSearchParams {
  let count = 0;
  for (let at = source.indexOf("&"); at >= 0; at = source.indexOf("&", at + 1)) {
    count += 1;
  }
  if (count >= maxParameters) {
    throw invalid(`the query has more than ${maxParameters} parameters`);
  }
  return new URLSearchParams(source);
}

/**
 * Refuses a request whose Host is none, or not one alone: a proxy before us may have judged by another one.
 *
 * @throws SockerlessError of kind `invalid`, in the words of Go's server
 */
export function checkHost({ headersDistinct: { host = [] } }: IncomingMessage): void {
  if (host.length > 1) {
    throw invalid("too many Host headers");
  }
  if (!host.every((each) => hostForm.test(each))) {
    throw invalid("malformed Host header");
  }
}
