/**
 * HTTP to one registry and whomever it names: keep-alive connections, redirects, bounded bodies. Credentials go to the
 * host that they were meant for: a redirect elsewhere is followed without them. A metadata service is never asked, whoever
 * names it: a user, a redirect, a registry that names its token server.
 */
import { once } from "node:events";
import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";

import { errnoOf, invalid } from "../../../common/errors.ts";
import { unreachable } from "./http-failures.ts";
import { metadataServices } from "./metadata-services.ts";

/** A request. */
export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE";
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | RequestStream;
  readonly signal: AbortSignal;
}

/** A body that is read while it is sent; it can be sent again. */
export interface RequestStream {
  /** Bytes. */
  readonly length: number;
  open(): AsyncIterable<Uint8Array>;
}

/** An answer, with its body still to be read or dropped. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  /** URL that the answer came from, after redirects. */
  readonly url: URL;
  readonly body: AsyncIterable<Uint8Array>;
  /** The whole body as bytes; `invalid` where it is larger than `maxBytes`. */
  bytes(maxBytes: number): Promise<Buffer>;
  /** Drops the body; a long one's connection with it. */
  discard(): void;
}

/** How a client connects. */
export interface HttpClientOptions {
  /** Accept any certificate: for registries on this machine and those configured as insecure. */
  readonly insecure: boolean;
  /** Use the proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`). */
  readonly proxied: boolean;
  readonly userAgent: string;
  /** Milliseconds without a byte after which a connection counts as lost. */
  readonly silenceMs: number;
}

const maxRedirects = 10;

/** A body that nobody wants is read up to this size, so that its connection can serve again. */
const drainedBytes = 64 * 1024;

/** Methods of which a request that the registry may have seen can be sent again. */
const repeatableMethods: ReadonlySet<HttpRequest["method"]> = new Set(["GET", "HEAD", "PUT"]);

/** Errors of a connection that the other side has closed. */
const closedErrnos: ReadonlySet<string | undefined> = new Set(["ECONNRESET", "EPIPE"]);

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

let trusted: SecureContext | undefined;

/** Node's own authorities and the system's: a company's own is installed in the system. Reading them takes a while. */
export function trustedAuthorities(): SecureContext {
  trusted ??= createSecureContext({
    ca: [...new Set([...getCACertificates("default"), ...getCACertificates("system")])],
  });
  return trusted;
}

/** A client; close it when its work is done. */
export class HttpClient {
  readonly #options: HttpClientOptions;
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    const proxy = options.proxied ? { proxyEnv: process.env } : {};
    this.#http = new HttpAgent({ keepAlive: true, ...proxy });
    this.#https = new HttpsAgent({ keepAlive: true, ...proxy });
  }

  /** Closes idle connections and breaks off what is under way. */
  close(): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  /**
   * Sends a request and follows redirects.
   *
   * @throws RegistryUnreachable; the signal's reason
   */
  async send(request: HttpRequest): Promise<HttpResponse> {
    let { url, headers = {} } = request;
    for (let hops = 0; ; hops++) {
      const response = await this.#sendOnce({ ...request, url, headers });
      const location = redirectStatuses.has(response.status) ? response.headers.location : undefined;
      if (location === undefined || request.method === "POST" || request.method === "PUT") {
        return response;
      }
      response.discard();
      const next = URL.parse(location, url);
      if (hops === maxRedirects || next === null || !/^https?:$/.test(next.protocol)) {
        throw unreachable(request.method, request.url, new Error(`stopped after ${hops + 1} redirects`));
      }
      if (next.host !== url.host || next.protocol !== url.protocol) {
        headers = Object.fromEntries(Object.entries(headers).filter(([name]) => !isCredential(name)));
      }
      url = next;
    }
  }

  /**
   * Without redirects. A registry may close a kept connection at the moment at which it is used again: what may be asked
   * twice is asked again then, until a new connection has it.
   */
  async #sendOnce(request: HttpRequest): Promise<HttpResponse> {
    for (;;) {
      const answer = await this.#sendOn(request);
      if (answer !== undefined) {
        return answer;
      }
    }
  }

  /** @returns undefined: a kept connection was closed before it answered a request that may be sent again */
  async #sendOn(request: HttpRequest): Promise<HttpResponse | undefined> {
    const { method, url, headers, body, signal } = request;
    signal.throwIfAborted();
    const length = body === undefined ? {} : { "content-length": lengthOf(body) };
    const options = {
      method,
      signal,
      headers: { "user-agent": this.#options.userAgent, ...length, ...headers },
      timeout: this.#options.silenceMs,
    };
    // Node's types lack this option of `net.connect` for requests.
    const plain = { ...options, agent: this.#http, blockList: metadataServices };
    const outgoing =
      url.protocol === "https:"
        ? httpsRequest(url, { ...options, agent: this.#https, ...this.#verification() })
        : httpRequest(url, plain);
    let answer: IncomingMessage | undefined;
    // Once there is an answer its reader is to hear why it breaks off.
    outgoing.on("timeout", () => (answer ?? outgoing).destroy(timeoutError()));
    let sourceError: unknown;
    if (body === undefined || typeof body === "string" || body instanceof Uint8Array) {
      outgoing.end(body);
    } else {
      const source = Readable.from(body.open(), { objectMode: false });
      source.once("error", (error) => {
        sourceError = error;
      });
      // A server that refuses answers before it has read everything; then the response tells, not the broken pipe.
      pipeline(source, outgoing).catch(() => undefined);
    }
    try {
      const [incoming] = (await once(outgoing, "response")) as [IncomingMessage];
      answer = incoming;
      return new NodeResponse(incoming, request);
    } catch (error) {
      signal.throwIfAborted();
      if (sourceError !== undefined) {
        throw sourceError;
      }
      if (outgoing.reusedSocket && repeatableMethods.has(method) && closedErrnos.has(errnoOf(error))) {
        return undefined;
      }
      throw unreachable(method, url, error);
    }
  }

  #verification(): object {
    return this.#options.insecure ? { rejectUnauthorized: false } : { secureContext: trustedAuthorities() };
  }
}

class NodeResponse implements HttpResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly url: URL;
  readonly #incoming: IncomingMessage;
  readonly #request: HttpRequest;

  constructor(incoming: IncomingMessage, request: HttpRequest) {
    this.#incoming = incoming;
    this.#request = request;
    this.status = incoming.statusCode ?? 0;
    this.headers = incoming.headers;
    this.url = request.url;
    // A body that breaks off before it is read has nobody else to tell.
    incoming.on("error", () => {});
  }

  get body(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  async bytes(maxBytes: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.#read()) {
      size += chunk.length;
      if (size > maxBytes) {
        throw invalid(`the answer of ${this.url.host} is larger than ${maxBytes} bytes`);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  discard(): void {
    const length = Number(this.#incoming.headers["content-length"] ?? Number.NaN);
    if (this.#request.method === "HEAD" || length <= drainedBytes) {
      this.#incoming.resume();
    } else {
      this.#incoming.destroy();
    }
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    const { method, url, signal } = this.#request;
    try {
      for await (const chunk of this.#incoming) {
        yield chunk as Buffer;
      }
    } catch (error) {
      signal.throwIfAborted();
      throw unreachable(method, url, error);
    }
  }
}

function lengthOf(body: string | Uint8Array | RequestStream): number {
  return typeof body === "string" ? Buffer.byteLength(body) : body.length;
}

function isCredential(header: string): boolean {
  return /^(authorization|cookie)$/i.test(header);
}

function timeoutError(): Error {
  return Object.assign(new Error("timeout"), { code: "ETIMEDOUT" });
}
