/** Credentials for Azure's registries: exchanges a login's token for a registry token, which is valid for hours. */
import type { TokenCredential } from "@azure/identity";
import { create } from "@bufbuild/protobuf";
import * as v from "valibot";

import type { Clock } from "../../../common/clock.ts";
import { mustRead, object } from "../../../common/documents.ts";
import { type RegistryAuth, RegistryAuthSchema } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { RepositoryCredentials } from "../../cloud/images/own-repository.ts";
import { type RegistryToken, RegistryTokens } from "../../cloud/images/registry-tokens.ts";
import { refusalOfResponse } from "../../images/registry/authorizer.ts";
import { registryEndpoints } from "../../images/registry/endpoints.ts";
import { HttpClient } from "../../images/registry/http-client.ts";
import type { RegistryOptions } from "../../images/registry/registry.ts";
import { RegistryUnreachable } from "../../images/registry/registry-errors.ts";
import { check, maxJsonBytes, parseJson } from "../../images/manifest.ts";
import type { AzureCall } from "../arm/clients.ts";

/** Settings and dependencies of {@link AcrCredentials}. */
export interface AcrCredentialsOptions {
  readonly azure: { readonly credential: TokenCredential; readonly call: AzureCall };
  /** The configured registry's host and user; undefined if the login is used there too. */
  readonly server: string | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly registry: RegistryOptions;
  readonly clock: Clock;
}

/** Validity of a token that does not state its own. */
const shortestLifeMs = 60 * 60_000;
/** The audience of tokens for registries. */
const scope = "https://containerregistry.azure.net/.default";
/** Hosts of Azure's registries; other hosts with the same beginning must not receive a token. */
const host = /^[a-z0-9-]+(\.[a-z0-9]+\.data)?\.azurecr\.(io|cn|us)$/;

const exchangeSchema = object({ refresh_token: v.pipe(v.string(), v.nonEmpty()) });
const claimsSchema = object({ exp: v.pipe(v.number(), v.finite()) });

/** Whether a host is an Azure registry. */
export function isAcr(domain: string): boolean {
  return host.test(domain);
}

/** Returns the configured registry's user, or tokens for registries that accept the login. */
export class AcrCredentials implements RepositoryCredentials {
  readonly #options: AcrCredentialsOptions;
  readonly #tokens: RegistryTokens;

  constructor(options: AcrCredentialsOptions) {
    this.#options = options;
    this.#tokens = new RegistryTokens((domain) => this.#ask(domain), options.clock);
  }

  /** @throws AzureError: there is no login, or it has no access to the registry */
  async get(domain: string): Promise<RegistryAuth> {
    const { server, username, password = "" } = this.#options;
    return domain === server && username !== undefined
      ? create(RegistryAuthSchema, { username, password })
      : await this.#tokens.get(domain);
  }

  forget(domain: string): void {
    this.#tokens.forget(domain);
  }

  async #ask(domain: string): Promise<RegistryToken> {
    const { azure, clock } = this.#options;
    const identityToken = await azure.call("Registry_ExchangeToken", async ({ abortSignal }) => {
      const login = await azure.credential.getToken(scope, { abortSignal });
      return await this.#exchange(domain, login?.token ?? "", abortSignal);
    });
    return {
      auth: create(RegistryAuthSchema, { identityToken }),
      expiresMs: expiryOf(identityToken) ?? clock.nowMs() + shortestLifeMs,
    };
  }

  async #exchange(domain: string, accessToken: string, signal: AbortSignal): Promise<string> {
    const body = new URLSearchParams({
      grant_type: "access_token",
      service: domain,
      access_token: accessToken,
    });
    let failure: unknown;
    for (const { url, insecure, local } of registryEndpoints(domain, this.#options.registry.insecureHosts)) {
      const http = new HttpClient({ ...this.#options.registry, insecure, proxied: !local });
      try {
        const response = await http.send({
          method: "POST",
          url: new URL("/oauth2/exchange", url),
          headers: { "content-type": "application/x-www-form-urlencoded" },
          body: body.toString(),
          signal,
        });
        if (response.status !== 200) {
          throw await refusalOfResponse(response);
        }
        const answer = parseJson(await response.bytes(maxJsonBytes), "token");
        return check(exchangeSchema, answer, "token").refresh_token;
      } catch (error) {
        if (!(error instanceof RegistryUnreachable)) {
          throw error;
        }
        failure = error;
      } finally {
        http.close();
      }
    }
    throw failure;
  }
}

/** A token's expiry in Unix milliseconds; undefined if not stated. */
function expiryOf(token: string): number | undefined {
  try {
    const claims = Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8");
    return mustRead(claimsSchema, JSON.parse(claims)).exp * 1000;
  } catch {
    return undefined;
  }
}
