/** Requests to URLs given by users: the archive of `docker import URL`. */
import { STATUS_CODES } from "node:http";

import {
  errnoOf,
  type ErrorKind,
  forbidden,
  invalid,
  SockerlessError,
  systemError,
} from "../../common/errors.ts";
import { maskSecrets } from "../../common/mask-secrets.ts";
import { throttle } from "./blob-download.ts";
import type { ReportProgress } from "./progress.ts";
import { isLoopback } from "./registry/endpoints.ts";
import { HttpClient } from "./registry/http-client.ts";
import { RegistryUnreachable } from "./registry/registry-errors.ts";
import type { RegistryOptions } from "./registry/registry.ts";

/** A response with an unread body. */
export interface FetchedUrl extends Disposable {
  /** The requested URL with scheme, without password. */
  readonly url: string;
  /** Bytes; undefined if the server does not report it. */
  readonly size: number | undefined;
  /** Fails if the connection breaks, or is silent for too long. */
  readonly body: AsyncIterable<Uint8Array>;
}

const maxErrorBytes = 64 * 1024;

const refusals: Readonly<Record<number, ErrorKind>> = {
  400: "invalid",
  401: "unauthorized",
  403: "forbidden",
  404: "not-found",
};

/**
 * Requests a URL and follows redirects.
 *
 * @param text default scheme: HTTP
 * @throws invalid: not a URL, or status 400; not-found: unknown host, or status 404; unauthorized, forbidden: the
 *   server's status, or the address of a metadata service; system
 */
export async function fetchUrl(
  text: string,
  options: RegistryOptions,
  signal: AbortSignal,
): Promise<FetchedUrl> {
  const asked = text.includes("://") ? text : `http://${text}`;
  const url = URL.parse(asked);
  if (url === null) {
    throw invalid(`parse ${JSON.stringify(asked)}: invalid URL`);
  }
  if (!/^https?:$/.test(url.protocol)) {
    throw systemError(
      `Get ${JSON.stringify(asked)}: unsupported protocol scheme ${JSON.stringify(url.protocol.slice(0, -1))}`,
    );
  }
  const proxied = !isLoopback(url.hostname);
  const http = new HttpClient({ ...options, insecure: false, proxied });
  try {
    const response = await http.send({ method: "GET", url, signal });
    if (response.status >= 400) {
      const body = await response.bytes(maxErrorBytes).catch(() => Buffer.alloc(0));
      const status = `${response.status} ${STATUS_CODES[response.status] ?? ""}`.trim();
      throw new SockerlessError(
        refusals[response.status] ?? "system",
        `failed to GET ${asked} with status ${status}: ${body.toString("utf8").trim()}`,
      );
    }
    const length = Number(response.headers["content-length"] ?? Number.NaN);
    return {
      url: maskSecrets(asked),
      size: Number.isSafeInteger(length) ? length : undefined,
      body: withKinds(response.body),
      [Symbol.dispose]: () => http.close(),
    };
  } catch (error) {
    http.close();
    throw kindly(error);
  }
}

/** The body of a response, with progress reports like Docker's. */
export async function* withProgress(
  { body, size }: FetchedUrl,
  report: ReportProgress,
): AsyncGenerator<Uint8Array> {
  const throttled = throttle(report);
  const total = size === undefined ? {} : { total: size };
  let current = 0;
  for await (const chunk of body) {
    current += chunk.length;
    throttled({ id: "", status: "Importing", current, ...total });
    yield chunk;
  }
  if (size === undefined) {
    report({ id: "", status: "Importing", current });
  }
}

async function* withKinds(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw kindly(error);
  }
}

function kindly(error: unknown): unknown {
  if (!(error instanceof RegistryUnreachable)) {
    return error;
  }
  switch (errnoOf(error.cause)) {
    case "ENOTFOUND":
      return new SockerlessError("not-found", error.message, error);
    case "ERR_IP_BLOCKED":
      return forbidden(error.message, error);
    default:
      return systemError(error.message, error);
  }
}
