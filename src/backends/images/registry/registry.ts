/** A client for a registry's repositories (Distribution specification v2): reads and writes manifests and blobs. */
import * as v from "valibot";

import { mustRead, object } from "../../../common/documents.ts";
import { invalid } from "../../../common/errors.ts";
import type { LayerCompression } from "../compressed-layer.ts";
import { isSha256Digest, sha256Of } from "../digest.ts";
import { HeldDocuments, objectBytes } from "../held-documents.ts";
import { acceptedManifests, maxJsonBytes, parseJson } from "../manifest.ts";
import { Authorizer, NoCredentials, refusalOfResponse } from "./authorizer.ts";
import type { Credentials } from "./credentials.ts";
import { registryEndpoints, type RegistryEndpoint } from "./endpoints.ts";
import { HttpClient, type HttpRequest, type HttpResponse, type RequestStream } from "./http-client.ts";
import { RegistryRefusal, RegistryUnreachable, statusLine } from "./registry-errors.ts";

/** Limits of a list of tags, as a registry could return pages endlessly. */
const maxTagPages = 10_000;
const maxTagBytes = 16 * 1024 ** 2;
const mostTagsOfPage = 200_000;

const tagListSchema = object({ tags: v.nullish(v.array(v.string())) });

/** Settings of all connections to registries. */
export interface RegistryOptions {
  /** Registries that may be contacted without TLS or with any certificate: `host` or `host:port`. */
  readonly insecureHosts: readonly string[];
  readonly userAgent: string;
  /** Compression of layers that have none here. */
  readonly compression: LayerCompression;
  /** Milliseconds without a byte after which a connection counts as lost. */
  readonly silenceMs: number;
}

/**
 * Settings for requests on behalf of a client, which are announced to the registry as moby does.
 *
 * @param client its User-Agent; empty or absent if unknown
 */
export function onBehalfOf(options: RegistryOptions, client: string | undefined): RegistryOptions {
  // Drops characters that are invalid in a header.
  const named = (client ?? "").replace(/[^\x20-\x7e]/g, "").replace(/[();\\]/g, "\\$&");
  return named === "" ? options : { ...options, userAgent: `${options.userAgent} UpstreamClient(${named})` };
}

/** A fetched manifest; its bytes match the digest. */
export interface FetchedManifest {
  readonly bytes: Buffer;
  readonly digest: string;
  readonly mediaType: string;
}

/** A part of a blob being downloaded. */
export interface BlobPart {
  /** Byte offset of the part in the blob: the requested one, or 0. */
  readonly offset: number;
  readonly body: AsyncIterable<Uint8Array>;
  discard(): void;
}

/** A registry that has answered, and its authorization. */
export class Registry implements Disposable {
  readonly url: URL;
  /** Its documents that this request keeps. */
  readonly documents = new HeldDocuments();
  readonly #http: HttpClient;
  readonly #authorizer: Authorizer;

  private constructor(url: URL, http: HttpClient, challenge: string, credentials: Credentials | undefined) {
    this.url = url;
    this.#http = http;
    this.#authorizer = new Authorizer(
      { http, documents: this.documents, registry: url },
      challenge,
      credentials,
    );
  }

  /**
   * Connects to the registry of a domain: to the first of its addresses that answers.
   *
   * @throws RegistryUnreachable: the last address' failure
   */
  static async connect(
    domain: string,
    credentials: Credentials | undefined,
    options: RegistryOptions,
    signal: AbortSignal,
  ): Promise<Registry> {
    let failure: unknown;
    for (const endpoint of registryEndpoints(domain, options.insecureHosts)) {
      try {
        return await Registry.#ping(endpoint, credentials, options, signal);
      } catch (error) {
        if (!(error instanceof RegistryUnreachable)) {
          throw error;
        }
        failure = error;
      }
    }
    throw failure;
  }

  static async #ping(
    endpoint: RegistryEndpoint,
    credentials: Credentials | undefined,
    options: RegistryOptions,
    signal: AbortSignal,
  ): Promise<Registry> {
    const http = new HttpClient({ ...options, insecure: endpoint.insecure, proxied: !endpoint.local });
    try {
      const response = await http.send({ method: "GET", url: new URL("/v2/", endpoint.url), signal });
      response.discard();
      const challenge = response.status === 401 ? (response.headers["www-authenticate"] ?? "") : "";
      return new Registry(endpoint.url, http, challenge, credentials);
    } catch (error) {
      http.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.documents[Symbol.dispose]();
    this.#http.close();
  }

  /** A token that replaces the password; see {@link Authorizer.refreshToken}. */
  get refreshToken(): string | undefined {
    return this.#authorizer.refreshToken;
  }

  /** Requests `/v2/` with the credentials. @throws RegistryRefusal if they are refused */
  async checkCredentials(signal: AbortSignal): Promise<void> {
    const response = await this.#request("GET", "/v2/", undefined, {}, signal);
    response.discard();
    if (response.status !== 200) {
      throw new RegistryUnreachable(
        `login attempt to ${new URL("/v2/", this.url).href} failed with status: ${statusLine(response.status)}`,
      );
    }
  }

  /**
   * The manifest of a tag or digest, verified against its digest.
   *
   * @throws RegistryRefusal, RegistryUnreachable; invalid: too large, or not matching the digest
   */
  async manifest(path: string, reference: string, signal: AbortSignal): Promise<FetchedManifest> {
    // Registries that limit pulls do not count a HEAD, so an image that already exists costs nothing.
    const digest = isSha256Digest(reference) ? reference : await this.#digestOfTag(path, reference, signal);
    const response = await this.#get(
      `/v2/${path}/manifests/${digest ?? reference}`,
      path,
      { accept: acceptedManifests.join(", ") },
      signal,
    );
    const bytes = await this.#document(response);
    const actual = sha256Of(bytes);
    if (digest !== undefined && digest !== actual) {
      throw invalid(`manifest verification failed for digest ${digest}`);
    }
    return { bytes, digest: actual, mediaType: response.headers["content-type"] ?? "" };
  }

  /**
   * All tags of a repository, over all pages.
   *
   * @throws RegistryRefusal, RegistryUnreachable; invalid: not a list of tags, or too long
   */
  async tags(path: string, signal: AbortSignal): Promise<readonly string[]> {
    const tags: string[] = [];
    let page = `/v2/${path}/tags/list`;
    let bytes = 0;
    for (let read = 0; read < maxTagPages && bytes < maxTagBytes; read++) {
      const response = await this.#get(page, path, {}, signal);
      const content = await this.#document(response);
      bytes += content.length;
      for (const tag of tagsOfPage(content)) {
        tags.push(tag); // No spread: a page may exceed the limit of arguments.
      }
      const next = nextPage(response);
      if (next === undefined) {
        return tags;
      }
      page = next;
    }
    throw invalid(`the registry's list of tags of ${path} does not end`);
  }

  /** An image's configuration, verified against its digest. @throws as {@link manifest} */
  async config(path: string, digest: string, signal: AbortSignal): Promise<Buffer> {
    const headers = { "accept-encoding": "identity" };
    const bytes = await this.#document(await this.#get(`/v2/${path}/blobs/${digest}`, path, headers, signal));
    if (sha256Of(bytes) !== digest) {
      throw invalid(`the image's configuration is not what its digest says: ${digest}`);
    }
    return bytes;
  }

  /** Fetches a blob from an offset; a server without support for ranges sends it from the start. */
  async blob(path: string, digest: string, offset: number, signal: AbortSignal): Promise<BlobPart> {
    const headers = {
      // Layers are already compressed; another encoding would hide the length and break ranges.
      "accept-encoding": "identity",
      ...(offset === 0 ? {} : { range: `bytes=${offset}-` }),
    };
    const response = await this.#get(`/v2/${path}/blobs/${digest}`, path, headers, signal);
    const start =
      response.status === 206
        ? Number(/^bytes (\d+)-/.exec(response.headers["content-range"] ?? "")?.[1])
        : 0;
    if (start !== 0 && start !== offset) {
      response.discard();
      throw new RegistryUnreachable(`unexpected range in the answer for blob ${digest}`);
    }
    return { offset: start, body: response.body, discard: () => response.discard() };
  }

  /** Whether the repository has a blob. @throws RegistryRefusal, RegistryUnreachable */
  async hasBlob(path: string, digest: string, signal: AbortSignal): Promise<boolean> {
    const target = { method: "HEAD", url: this.#url(`/v2/${path}/blobs/${digest}`) } as const;
    const response = await this.#authorized({ ...target, signal }, pushScope(path));
    if (response.status !== 200 && response.status !== 404) {
      throw await refusalOfResponse(response);
    }
    response.discard();
    return response.status === 200;
  }

  /**
   * Uploads a blob in one piece.
   *
   * @param from a repository of this registry that has the blob, which may make sending it unnecessary
   * @returns true if the registry mounted it from there
   * @throws RegistryRefusal, RegistryUnreachable; the content's own error
   */
  async uploadBlob(
    path: string,
    digest: string,
    content: RequestStream,
    from: string | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const begin = this.#url(`/v2/${path}/blobs/uploads/`);
    if (from !== undefined) {
      begin.searchParams.set("mount", digest);
      begin.searchParams.set("from", from);
    }
    const scope = from === undefined ? pushScope(path) : `${pushScope(path)} repository:${from}:pull`;
    const begun = await this.#authorized({ method: "POST", url: begin, body: "", signal }, scope);
    if (begun.status === 201 && from !== undefined) {
      begun.discard();
      return true;
    }
    const location = URL.parse(begun.headers.location ?? "", begun.url);
    if (begun.status !== 202 || location === null) {
      throw await refusalOfResponse(begun);
    }
    begun.discard();
    location.searchParams.set("digest", digest);
    const headers = { "content-type": "application/octet-stream" };
    const request = { method: "PUT", url: location, headers, body: content, signal } as const;
    await this.#created(request, pushScope(path));
    return false;
  }

  /** Stores a manifest under a tag or its digest. @throws RegistryRefusal, RegistryUnreachable */
  async putManifest(
    path: string,
    reference: string,
    manifest: FetchedManifest,
    signal: AbortSignal,
  ): Promise<void> {
    const url = this.#url(`/v2/${path}/manifests/${reference}`);
    const headers = { "content-type": manifest.mediaType };
    await this.#created({ method: "PUT", url, headers, body: manifest.bytes, signal }, pushScope(path));
  }

  /**
   * Deletes the object at a path of the registry, if it exists.
   *
   * @param scope required permission: `repository:name:delete`
   * @throws RegistryRefusal, RegistryUnreachable
   */
  async remove(target: string, scope: string, signal: AbortSignal): Promise<void> {
    const response = await this.#authorized({ method: "DELETE", url: this.#url(target), signal }, scope);
    if (response.status !== 404 && (response.status < 200 || response.status >= 300)) {
      throw await refusalOfResponse(response);
    }
    response.discard();
  }

  /**
   * Fetches a document that is not part of the Distribution specification, but of another API of the registry.
   *
   * @returns its JSON; undefined if it does not exist
   * @throws RegistryRefusal, RegistryUnreachable; invalid: not JSON
   */
  async document(target: string, scope: string, signal: AbortSignal): Promise<unknown> {
    const response = await this.#authorized({ method: "GET", url: this.#url(target), signal }, scope);
    if (response.status === 404) {
      response.discard();
      return undefined;
    }
    if (response.status !== 200) {
      throw await refusalOfResponse(response);
    }
    return parseJson(await this.#document(response), target);
  }

  /** @throws unavailable: documents take too much memory */
  async #document(response: HttpResponse): Promise<Buffer> {
    const document = await response.bytes(maxJsonBytes, (bytes) => this.documents.take(bytes));
    this.documents.take(objectBytes(document));
    return document;
  }

  async #created(request: HttpRequest, scope: string): Promise<void> {
    const response = await this.#authorized(request, scope);
    if (response.status < 200 || response.status >= 300) {
      throw await refusalOfResponse(response);
    }
    response.discard();
  }

  #url(target: string): URL {
    return new URL(target, this.url);
  }

  async #digestOfTag(path: string, tag: string, signal: AbortSignal): Promise<string | undefined> {
    const accept = { accept: acceptedManifests.join(", ") };
    const response = await this.#request("HEAD", `/v2/${path}/manifests/${tag}`, path, accept, signal);
    response.discard();
    const digest = response.headers["docker-content-digest"];
    const isKnown = response.status === 200 && typeof digest === "string" && isSha256Digest(digest);
    return isKnown ? digest : undefined;
  }

  async #get(
    target: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const response = await this.#request("GET", target, path, headers, signal);
    if (response.status !== 200 && response.status !== 206) {
      throw await refusalOfResponse(response);
    }
    return response;
  }

  #request(
    method: "GET" | "HEAD",
    target: string,
    path: string | undefined,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const scope = path === undefined ? undefined : `repository:${path}:pull`;
    return this.#authorized({ method, url: this.#url(target), headers, signal }, scope);
  }

  /** Sends a request with authorization; renews an expired token once. */
  async #authorized(request: HttpRequest, scope: string | undefined): Promise<HttpResponse> {
    const { method, url, headers, signal } = request;
    // Another server, to which an upload was directed, must not see the registry's credentials, nor anybody on the way.
    const isForeign = url.origin !== this.url.origin;
    for (let attempt = 0; ; attempt++) {
      const authorization = isForeign ? undefined : await this.#authorization(method, url, scope, signal);
      const credentials = authorization === undefined ? {} : { authorization };
      const response = await this.#http.send({ ...request, headers: { ...headers, ...credentials } });
      if (response.status !== 401 || attempt > 0 || authorization?.startsWith("Bearer ") !== true) {
        return response;
      }
      response.discard();
      this.#authorizer.forgetTokens();
    }
  }

  /** The authorization of a request; a refusal by the token server is reported as the request's own failure. */
  async #authorization(
    method: string,
    url: URL,
    scope: string | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    try {
      return await this.#authorizer.header(scope, signal);
    } catch (error) {
      const request = `${verb(method)} "${url.href}"`;
      if (error instanceof NoCredentials) {
        throw new RegistryRefusal("", error.message, 401, request);
      }
      if (error instanceof RegistryRefusal && scope !== undefined) {
        throw new RegistryRefusal("", error.reason, error.status, request);
      }
      throw error;
    }
  }
}

function tagsOfPage(bytes: Buffer): readonly string[] {
  try {
    return mustRead(tagListSchema, parseJson(bytes, "list of tags", mostTagsOfPage)).tags ?? [];
  } catch (error) {
    throw invalid("the registry's list of tags is none", error);
  }
}

/** URL of the next page (RFC 8288, as used by the Distribution specification); undefined for the last page. */
function nextPage({ headers, url }: HttpResponse): string | undefined {
  const link = /^\s*<([^>]*)>\s*;.*\brel="?next\b/.exec([headers.link ?? ""].flat()[0] ?? "")?.[1];
  return link === undefined ? undefined : URL.parse(link, url)?.href;
}

function pushScope(path: string): string {
  return `repository:${path}:pull,push`;
}

function verb(method: string): string {
  return method.charAt(0) + method.slice(1).toLowerCase();
}
