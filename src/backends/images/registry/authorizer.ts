/**
 * Authorization at a registry, as required by its `/v2/`. Bearer tokens come from the token server that the registry
 * names (Distribution specification, "Token Authentication" and "OAuth2"); they are fetched once per scope.
 */
import * as v from "valibot";

import { object, read } from "../../../common/documents.ts";
import { systemError } from "../../../common/errors.ts";
import type { HeldDocuments } from "../held-documents.ts";
import { parseJson } from "../manifest.ts";
import { type AuthChallenge, parseChallenges } from "./auth-challenge.ts";
import { basicHeader, type Credentials } from "./credentials.ts";
import type { HttpClient, HttpResponse } from "./http-client.ts";
import {
  noBasicCredentials,
  type RegistryRefusal,
  RegistryUnreachable,
  refusalOf,
} from "./registry-errors.ts";

/** The client ID of Docker's client; some token servers have rules for it. */
const clientId = "docker";
/** A token goes into a header. */
const maxAnswerBytes = 64 * 1024;

const tokenSchema = object({
  token: v.nullish(v.string()),
  access_token: v.nullish(v.string()),
  refresh_token: v.nullish(v.string()),
});

/** Parts of an {@link Authorizer}. */
export interface AuthorizerParts {
  readonly http: HttpClient;
  /** Counts the answers of token servers. */
  readonly documents: HeldDocuments;
  /** The registry's base address. */
  readonly registry: URL;
}

/** Makes `Authorization` headers for one registry. */
export class Authorizer {
  readonly #parts: AuthorizerParts;
  readonly #challenges: readonly AuthChallenge[];
  readonly #credentials: Credentials | undefined;
  readonly #tokens = new Map<string, Promise<string>>();
  #refreshToken: string | undefined;

  /** @param authenticate the registry's `WWW-Authenticate` header; empty if it requires nothing */
  constructor(parts: AuthorizerParts, authenticate: string, credentials: Credentials | undefined) {
    this.#parts = parts;
    this.#challenges = parseChallenges(authenticate);
    this.#credentials = credentials;
  }

  /** A token that a token server issued in place of a password (stored by `docker login`). */
  get refreshToken(): string | undefined {
    return this.#refreshToken;
  }

  /**
   * The header for a request; undefined if none is required.
   *
   * @param scope `repository:library/x:pull`, several separated by spaces; undefined to check credentials
   * @throws RegistryRefusal by the token server; RegistryUnreachable if required credentials are missing
   */
  async header(scope: string | undefined, signal: AbortSignal): Promise<string | undefined> {
    const bearer = this.#challenges.find(({ scheme }) => scheme === "bearer");
    if (bearer !== undefined) {
      const registryToken = this.#credentials?.registryToken ?? "";
      return `Bearer ${registryToken || (await this.#token(bearer, scope, signal))}`;
    }
    if (this.#challenges.some(({ scheme }) => scheme === "basic")) {
      const header = basicHeader(this.#credentials);
      if (header === undefined) {
        throw new NoCredentials(noBasicCredentials);
      }
      return header;
    }
    return undefined;
  }

  /** Drops tokens that the registry no longer accepts. */
  forgetTokens(): void {
    this.#tokens.clear();
  }

  #token(bearer: AuthChallenge, scope: string | undefined, signal: AbortSignal): Promise<string> {
    const key = scope ?? "";
    const known = this.#tokens.get(key);
    if (known !== undefined) {
      return known;
    }
    const fetched = this.#fetchToken(bearer, scope, signal);
    this.#tokens.set(key, fetched);
    fetched.catch(() => this.#tokens.delete(key));
    return fetched;
  }

  async #fetchToken(bearer: AuthChallenge, scope: string | undefined, signal: AbortSignal): Promise<string> {
    const realm = URL.parse(bearer.parameters.get("realm") ?? "");
    if (realm === null || !/^https?:$/.test(realm.protocol)) {
      throw new RegistryUnreachable("invalid realm in the challenge of the registry");
    }
    if (realm.protocol === "http:" && this.#parts.registry.protocol === "https:") {
      throw new RegistryUnreachable(`token server ${realm.host} has no TLS, although its registry has`);
    }
    const service = bearer.parameters.get("service") ?? "";
    const identityToken = this.#credentials?.identityToken ?? "";
    const response =
      identityToken === ""
        ? await this.#askForToken(realm, service, scope, signal)
        : await this.#exchange(realm, service, scope, identityToken, signal);
    if (response.status < 200 || response.status >= 300) {
      throw await refusalOfResponse(response);
    }
    const body = await response.bytes(maxAnswerBytes, (bytes) => this.#parts.documents.take(bytes));
    const { value: answer } = read(tokenSchema, tokenIn(body));
    const token = answer?.token || answer?.access_token;
    if (token === undefined || token === null || token === "") {
      throw new RegistryUnreachable("authorization server did not include a token in the response");
    }
    this.#refreshToken = answer?.refresh_token ?? this.#refreshToken;
    return token;
  }

  #askForToken(
    realm: URL,
    service: string,
    scope: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const url = new URL(realm);
    if (service !== "") {
      url.searchParams.set("service", service);
    }
    for (const each of scope?.split(" ") ?? []) {
      url.searchParams.append("scope", each);
    }
    const authorization = basicHeader(this.#credentials);
    if (authorization !== undefined) {
      url.searchParams.set("account", this.#credentials?.username ?? "");
    }
    if (scope === undefined && authorization !== undefined) {
      // A login stores a token instead of the password, if the server supports that.
      url.searchParams.set("offline_token", "true");
      url.searchParams.set("client_id", clientId);
    }
    const headers = authorization === undefined ? {} : { authorization };
    return this.#parts.http.send({ method: "GET", url, headers, signal });
  }

  #exchange(
    realm: URL,
    service: string,
    scope: string | undefined,
    refreshToken: string,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    const form = new URLSearchParams({
      grant_type: "refresh_token",
      refresh_token: refreshToken,
      client_id: clientId,
      service,
      ...(scope === undefined ? {} : { scope }),
    });
    return this.#parts.http.send({
      method: "POST",
      url: realm,
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: form.toString(),
      signal,
    });
  }
}

/** Required credentials are missing. */
export class NoCredentials extends Error {
  override readonly name = "NoCredentials";
}

/** Parses a refusal and its body. */
export async function refusalOfResponse(response: HttpResponse): Promise<RegistryRefusal> {
  const body = await response.bytes(maxAnswerBytes).catch(() => Buffer.alloc(0));
  return refusalOf({
    status: response.status,
    authenticate: response.headers["www-authenticate"] ?? "",
    contentType: response.headers["content-type"] ?? "",
    body: body.toString("utf8"),
  });
}

function tokenIn(bytes: Uint8Array): unknown {
  try {
    return parseJson(bytes, "token response");
  } catch (error) {
    throw systemError("unable to decode token response", error);
  }
}
