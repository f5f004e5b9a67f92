/**
 * HTTP to a registry and the servers that it names: keep-alive connections, redirects, bounded bodies. Credentials only
 * go to their host: redirects to other hosts are followed without them. Metadata services are never contacted, whether
 * named by a user, a redirect, or a registry's token server.
 */
import {
  type ClientRequest,
  type IncomingMessage,
  request as httpRequest,
  type RequestOptions,
} from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { urlToHttpOptions } from "node:url";

import { errnoOf, invalid } from "../../../common/errors.ts";
import { packWaiting } from "../../../common/pack-waiting.ts";
import { Dialer } from "./dialer.ts";
import { DialingAgent, type DialOptions } from "./dialing-agent.ts";
import { unreachable } from "./http-failures.ts";

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

/** A response whose body must be read or discarded. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  /** URL of the response, after redirects. */
  readonly url: URL;
  readonly body: AsyncIterable<Uint8Array>;
  /**
   * Reads the whole body.
   *
   * @param take called with the bytes of each part that was read; what it throws ends the answer
   * @throws invalid if it is larger than `maxBytes`
   */
  bytes(maxBytes: number, take?: (bytes: number) => void): Promise<Buffer>;
  /** Discards the body, and the connection if the body is long. */
  discard(): void;
}

/** Connection options of a client. */
export interface HttpClientOptions {
  /** Accept any certificate: for registries on this machine and those configured as insecure. */
  readonly insecure: boolean;
  /** Use the proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`). */
  readonly proxied: boolean;
  readonly userAgent: string;
  /** Milliseconds without a byte after which a connection counts as lost. */
  readonly silenceMs: number;
  /** Default: {@link registryDialer}. */
  readonly dialer?: Dialer;
}

/** Dials for this process; proxies are those of its environment at the first dial. */
export const registryDialer = new Dialer();

const maxRedirects = 10;

/** An unwanted body is read up to this size, to make its connection reusable. */
const drainedBytes = 64 * 1024;

/** Methods of requests that may be repeated even if the registry may have received them. */
const repeatableMethods: ReadonlySet<HttpRequest["method"]> = new Set(["GET", "HEAD", "PUT"]);

/** Errors of a connection closed by the peer. */
const closedErrnos: ReadonlySet<string | undefined> = new Set(["ECONNRESET", "EPIPE"]);

/** So many chunks of an answer may have any size; from then on they must have `smallestAverage` bytes on average. */
const toleratedChunks = 4096;
const smallestAverage = 32;

/** Informational answers (1xx) taken before a request's own. */
const toleratedInformation = 16;

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** An HTTP client; close it after use. */
export class HttpClient {
  readonly #options: HttpClientOptions;
  readonly #dialer: Dialer;
  readonly #http: DialingAgent;
  readonly #https: DialingAgent;
  readonly #closing = new AbortController();

  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#dialer = options.dialer ?? registryDialer;
    this.#http = new DialingAgent(this.#dialer, "http:");
    this.#https = new DialingAgent(this.#dialer, "https:");
  }

  /** Closes idle connections and aborts current requests. */
  close(): void {
    this.#closing.abort(new Error("the client was closed"));
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
   * Sends a request without following redirects. A registry may close a kept-alive connection just as it is reused:
   * repeatable requests are then sent again, in the end on a new connection.
   */
  async #sendOnce(request: HttpRequest): Promise<HttpResponse> {
    for (;;) {
      const answer = await this.#sendOn(request);
      if (answer !== undefined) {
        return answer;
      }
    }
  }

  /** @returns undefined if a kept-alive connection was closed without an answer to a repeatable request */
  async #sendOn(request: HttpRequest): Promise<HttpResponse | undefined> {
    const { method, url, headers, body, signal } = request;
    signal.throwIfAborted();
    const length = body === undefined ? {} : { "content-length": lengthOf(body) };
    const way = await this.#wayTo(request);
    const outgoing = httpRequest({
      ...urlToHttpOptions(url),
      ...way.options,
      method,
      signal,
      headers: { "user-agent": this.#options.userAgent, ...length, ...headers, ...way.headers },
      timeout: this.#options.silenceMs,
      agent: url.protocol === "https:" ? this.#https : this.#http,
    });
    outgoing.on("error", () => {}); // After the response has begun, its reader gets the error.
    let answer: IncomingMessage | undefined;
    outgoing.on("timeout", () => (answer ?? outgoing).destroy(timeoutError()));
    let sourceError: unknown;
    if (body === undefined || typeof body === "string" || body instanceof Uint8Array) {
      outgoing.end(body);
    } else {
      const source = Readable.from(body.open(), { objectMode: false });
      source.once("error", (error) => {
        sourceError = error;
      });
      // A server may refuse before it has read everything: the response then has the error, not the broken pipe.
      pipeline(source, outgoing).catch(() => undefined);
    }
    outgoing.once("response", joinChunks);
    const answered = Promise.withResolvers<IncomingMessage>();
    outgoing.once("response", answered.resolve).once("error", answered.reject);
    // The only event if the server switches protocols.
    outgoing.once("close", () => answered.reject(new Error("the connection was closed without an answer")));
    let informed = 0;
    outgoing.on("information", () => {
      informed += 1;
      if (informed > toleratedInformation) {
        outgoing.destroy(new Error("informational answers without an end"));
      }
    });
    try {
      answer = await answered.promise;
      return new NodeResponse(answer, outgoing, request, this.#dialer);
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

  /** The way to a request's server; without TLS a proxy is sent the request itself. */
  async #wayTo({ method, url, signal: wanted }: HttpRequest): Promise<Way> {
    const signal = AbortSignal.any([wanted, this.#closing.signal]);
    const { insecure, proxied } = this.#options;
    if (url.protocol === "https:") {
      return { options: { dial: { tls: { insecure }, proxied, signal } } };
    }
    const proxy = proxied
      ? await this.#dialer.proxyOf(url, signal).catch((error: unknown) => {
          wanted.throwIfAborted();
          throw unreachable(method, url, error);
        })
      : undefined;
    if (proxy === undefined) {
      return { options: { dial: { tls: undefined, signal } } };
    }
    const isTls = proxy.protocol === "https:";
    const { hostname, port, auth } = urlToHttpOptions(proxy);
    const options = {
      hostname,
      port: port || (isTls ? 443 : 80),
      path: `${url.origin}${url.pathname}${url.search}`,
      dial: { tls: isTls ? { insecure: false } : undefined, proxy: true, signal },
    };
    const login = auth ? { "proxy-authorization": `Basic ${Buffer.from(auth).toString("base64")}` } : {};
    return { options, headers: { host: url.host, ...login } };
  }
}

/** Options and headers of a request that name its way. */
interface Way {
  readonly options: RequestOptions & DialOptions;
  readonly headers?: Readonly<Record<string, string>>;
}

class NodeResponse implements HttpResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly url: URL;
  readonly #incoming: IncomingMessage;
  readonly #outgoing: ClientRequest;
  readonly #request: HttpRequest;
  readonly #dialer: Dialer;

  constructor(incoming: IncomingMessage, outgoing: ClientRequest, request: HttpRequest, dialer: Dialer) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#request = request;
    this.#dialer = dialer;
    this.status = incoming.statusCode ?? 0;
    this.headers = incoming.headers;
    this.url = request.url;
    // Without a reader, an aborted body has no other error handler.
    incoming.on("error", () => {});
  }

  get body(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  async bytes(maxBytes: number, take: (bytes: number) => void = () => {}): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this.#read()) {
      size += chunk.length;
      if (size > maxBytes) {
        throw invalid(`the answer of ${this.url.host} is larger than ${maxBytes} bytes`);
      }
      take(chunk.length);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  discard(): void {
    this.#endRequest();
    const length = Number(this.#incoming.headers["content-length"] ?? Number.NaN);
    if (this.#request.method === "HEAD" || length <= drainedBytes) {
      if (!this.#incoming.readableEnded) {
        this.#dialer.keepIdle(this.#incoming.socket); // The rest may be long in coming.
      }
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
    } finally {
      this.#endRequest();
    }
  }

  /** Ends a request whose server has answered and reads no more of it. */
  #endRequest(): void {
    if (!this.#outgoing.writableFinished) {
      this.#outgoing.destroy();
    }
  }
}

/**
 * Joins the chunks that one read of the connection has brought, and ends a body of mostly tiny ones: each chunk takes
 * hundreds of bytes of memory and microseconds of the event loop.
 */
function joinChunks(incoming: IncomingMessage): void {
  let count = 0;
  let bytes = 0;
  packWaiting(incoming);
  const push = incoming.push.bind(incoming);
  incoming.push = (chunk: Uint8Array | null) => {
    count += chunk === null ? 0 : 1;
    bytes += chunk?.length ?? 0;
    if (count > toleratedChunks && bytes < count * smallestAverage) {
      incoming.destroy(new Error("the answer's chunks are too small"));
    }
    return push(chunk);
  };
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
