/** The request target (path and query), the Host header and the transfer coding of a request. */
import type { IncomingMessage } from "node:http";
import { posix } from "node:path";

import { invalid, SockerlessError } from "../../common/errors.ts";

/** Maximum number of parameters in a query: parsing a mebibyte of empty ones takes seconds. */
const maxParameters = 4096;

/** Maximum characters of a path: names have fewer, and refusals quote it. */
const maxPath = 16_384;

/** A Host header that Go's server accepts: characters of names and addresses, escapes, or empty. */
const hostForm = /^[\w!$%&'()*+,\-.:;=[\]~]*$/;

/** A parsed request target. */
export interface RequestTarget {
  /** Decoded; begins with a slash. */
  readonly path: string;
  /** The redirect's target if the path is not clean (`//`, `.`, `..`); otherwise undefined. */
  readonly canonical: string | undefined;
  readonly query: URLSearchParams;
}

/**
 * Parses a request target.
 *
 * @param target as in the request line, `/v1.51/images/a%2Fb/json?x=1`; proxies add scheme and host
 * @throws SockerlessError of kind `invalid` where percent signs are misused or the path is too long; `query` throws it
 *   where it has more than {@link maxParameters} parameters
 */
export function parseRequestTarget(target: string): RequestTarget {
  const relative = target.replace(/^https?:\/\/[^/?]*/i, "");
  const mark = relative.indexOf("?");
  const rawPath = mark < 0 ? relative : relative.slice(0, mark);
  if (rawPath.length > maxPath) {
    throw invalid(`the path has more than ${maxPath} characters`);
  }
  let query: URLSearchParams | undefined;
  try {
    const path = decodeURIComponent(rawPath === "" ? "/" : rawPath);
    const canonical = posix.normalize(rawPath === "" ? "/" : rawPath);
    return {
      path,
      canonical: canonical === rawPath ? undefined : canonical + relative.slice(rawPath.length),
      // The query is parsed lazily: it may have a mebibyte.
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
 * Refuses a request without exactly one valid Host: a proxy in front may have judged by a different one.
 *
 * @throws SockerlessError of kind `invalid`, in the words of Go's server
 */
export function checkHost({ rawHeaders }: IncomingMessage): void {
  // Not of `headersDistinct`, whose lists would be kept with the request.
  const host = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === "host");
  if (host.length > 1) {
    throw invalid("too many Host headers");
  }
  if (!host.every((each) => hostForm.test(each))) {
    throw invalid("malformed Host header");
  }
}

/** A body in another transfer coding than `chunked`, whose end is not where a proxy may see it. */
export class UnsupportedTransferEncoding extends SockerlessError {
  constructor(coding: string) {
    super("not-implemented", `unsupported transfer encoding: ${JSON.stringify(coding)}`);
  }
}

/**
 * Refuses a body in any transfer coding but `chunked`, once. Node's parser takes each list that ends with it.
 *
 * @throws UnsupportedTransferEncoding in the words of Go's server
 */
export function checkTransferEncoding({ headers: { "transfer-encoding": coding } }: IncomingMessage): void {
  if (coding !== undefined && coding.toLowerCase() !== "chunked") {
    throw new UnsupportedTransferEncoding(coding);
  }
}

/** A request's URL as far as it is logged: it may have a mebibyte. */
export function loggedUrl({ url }: IncomingMessage): string | undefined {
  return url?.slice(0, 1_000);
}
