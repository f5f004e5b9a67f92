/** Credentials for Azure's registries: a login's token is exchanged for one of the registry, which lasts for hours. */
import type { TokenCredential } from "@azure/identity";
import { create } from "@bufbuild/protobuf";
import { z } from "zod";

import type { Clock } from "../../../common/clock.ts";
import { type RegistryAuth, RegistryAuthSchema } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import type { RepositoryCredentials } from "../../common/cloud/images/own-repository.ts";
import { refusalOfResponse } from "../../common/images/registry/authorizer.ts";
import { registryEndpoints } from "../../common/images/registry/endpoints.ts";
import { HttpClient } from "../../common/images/registry/http-client.ts";
import type { RegistryOptions } from "../../common/images/registry/registry.ts";
import { RegistryUnreachable } from "../../common/images/registry/registry-errors.ts";
import { maxJsonBytes, parseJson } from "../../common/images/manifest.ts";
import type { AzureCall } from "../arm/clients.ts";

/** Settings of {@link AcrCredentials}, and what it calls. */
export interface AcrCredentialsOptions {
  readonly azure: { readonly credential: TokenCredential; readonly call: AzureCall };
  /** The configured registry's host, and a user of it; undefined: the login counts there, too. */
  readonly server: string | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly registry: RegistryOptions;
  readonly clock: Clock;
}

/** A token that ends sooner is not used for an upload that may take as long. */
const spareMs = 30 * 60_000;
/** The life of a token that does not tell its own. */
const shortestLifeMs = 60 * 60_000;
/** The audience of tokens for registries. */
const scope = "https://containerregistry.azure.net/.default";
/** Hosts of Azure's registries: one elsewhere that begins alike must not be shown a token. */
const host = /^[a-z0-9-]+(\.[a-z0-9]+\.data)?\.azurecr\.(io|cn|us)$/;

const exchangeSchema = z.object({ refresh_token: z.string().min(1) });
const claimsSchema = z.object({ exp: z.number() });

/** Whether a registry is Azure's, by its host. */
export function isAcr(domain: string): boolean {
  return host.test(domain);
}

interface Token {
  readonly auth: RegistryAuth;
  readonly expiresMs: number;
}

/** Asks once for all who need a token of a registry at a time, and again when it ends. */
export class AcrCredentials implements RepositoryCredentials {
  readonly #options: AcrCredentialsOptions;
  readonly #tokens = new Map<string, Promise<Token>>();

  constructor(options: AcrCredentialsOptions) {
    this.#options = options;
  }

  /** @throws AzureError: there is no login, or it may not use the registry */
  async get(domain: string): Promise<RegistryAuth> {
    const { server, username, password = "", clock } = this.#options;
    if (domain === server && username !== undefined) {
      return create(RegistryAuthSchema, { username, password });
    }
    const known = this.#tokens.get(domain);
    if (known !== undefined) {
      const { auth, expiresMs } = await known;
      if (clock.nowMs() < expiresMs - spareMs) {
        return auth;
      }
      if (this.#tokens.get(domain) === known) {
        this.#tokens.delete(domain);
      }
    }
    const asked = this.#tokens.get(domain) ?? this.#ask(domain);
    return (await asked).auth;
  }

  forget(domain: string): void {
    this.#tokens.delete(domain);
  }

  #ask(domain: string): Promise<Token> {
    const { azure, clock } = this.#options;
    const asked = azure
      .call("Registry_ExchangeToken", async ({ abortSignal }) => {
        const login = await azure.credential.getToken(scope, { abortSignal });
        return await this.#exchange(domain, login?.token ?? "", abortSignal);
      })
      .then((identityToken) => ({
        auth: create(RegistryAuthSchema, { identityToken }),
        expiresMs: expiryOf(identityToken) ?? clock.nowMs() + shortestLifeMs,
      }));
    this.#tokens.set(domain, asked);
    asked.catch(() => this.#tokens.delete(domain));
    return asked;
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
        return exchangeSchema.parse(answer).refresh_token;
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

/** The end of a token, Unix milliseconds; undefined: it does not tell. */
function expiryOf(token: string): number | undefined {
  try {
    const claims = Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8");
    return claimsSchema.parse(JSON.parse(claims)).exp * 1000;
  } catch {
    return undefined;
  }
}
