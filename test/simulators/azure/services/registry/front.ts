/**
 * The registry of Azure Container Registry: the Docker registry protocol before a real `docker-registry`, with ACR's
 * tokens, roles for each step, and layers that lie in a storage account.
 */
import type { IncomingMessage, ServerResponse } from "node:http";

import type { Context } from "../../context.ts";
import { TokenRefused } from "../../entra/entra.ts";
import type { DockerRegistry } from "../../../common/registry/docker-registry.ts";
import { readWhole, Refusal, RegistryFront } from "../../../common/registry/registry-front.ts";
import { type Access, type Action, type Caller, type RegistryTokens, tokenUser } from "./tokens.ts";

/** The settings of a registry that its front asks. */
export interface RegistryAccount {
  readonly name: string;
  readonly password: string;
}

/** Tokens for Resource Manager are what ACR exchanges. */
const audiences = [
  "https://management.azure.com",
  "https://management.core.windows.net",
  "https://containerregistry.azure.net",
];

/** The registry of Azure Container Registry. */
export class AcrFront extends RegistryFront {
  readonly #context: Context;
  readonly #account: RegistryAccount;
  readonly #tokens: RegistryTokens;

  /** @param start starts the real registry, at the first request */
  constructor(
    context: Context,
    account: RegistryAccount,
    tokens: RegistryTokens,
    start: () => Promise<DockerRegistry>,
  ) {
    super(start);
    this.#context = context;
    this.#account = account;
    this.#tokens = tokens;
  }

  protected override async serve(
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
  ): Promise<void> {
    if (url.pathname === "/oauth2/token" || url.pathname === "/oauth2/exchange") {
      await this.#serveTokens(request, response, url);
    } else {
      await this.#serveProtocol(request, response, url);
    }
  }

  protected override challenge({ scope }: Refusal): string {
    const wanted = scope === undefined ? "" : `,scope="${scope}",error="insufficient_scope"`;
    return `Bearer realm="http://${this.host}/oauth2/token",service="${this.host}"${wanted}`;
  }

  async #serveProtocol(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const { method = "" } = request;
    const { repository, kind } = routeOf(url.pathname);
    const isLayer = kind === "blobs" && method === "GET";
    const action = actionOf(method, kind);
    this.#demand(request, repository, action);
    const from = url.searchParams.get("from");
    if (method === "POST" && url.searchParams.has("mount") && from !== null) {
      this.#demand(request, from, "pull");
    }
    if (isLayer) {
      const head = await fetch(`http://${await this.behind()}${url.pathname}`, { method: "HEAD" });
      if (head.ok) {
        this.redirect(response, url);
        return;
      }
    }
    await this.pass(request, response, url.pathname + url.search);
  }

  /** Refuses a caller that may not do a step. @param repository undefined: any caller may */
  #demand(request: IncomingMessage, repository: string | undefined, action: Action): void {
    const scope = repository === undefined ? undefined : `repository:${repository}:${action}`;
    const [scheme = "", text = ""] = request.headers.authorization?.split(" ") ?? [];
    const unauthorized = (): Refusal =>
      new Refusal(
        401,
        "UNAUTHORIZED",
        "authentication required, visit https://aka.ms/acr/authorization for more information.",
        scope,
      );
    if (scheme === "Bearer") {
      const access = this.#tokens.byAccess(text);
      if (access === undefined || (repository !== undefined && !grants(access, repository, action))) {
        throw unauthorized();
      }
      return;
    }
    const caller = scheme === "Basic" ? this.#byPassword(...credentialsOf(text)) : undefined;
    if (caller === undefined) {
      throw unauthorized();
    }
    if (repository !== undefined && !this.#tokens.allows(caller, action)) {
      throw new Refusal(403, "DENIED", "requested access to the resource is denied");
    }
  }

  #byPassword(user: string, password: string): Caller | undefined {
    if (user === tokenUser) {
      return this.#tokens.byRefresh(password);
    }
    if (user === this.#account.name) {
      return password === this.#account.password ? "admin" : undefined;
    }
    const principal = this.#context.entra.authenticate(user, password);
    return principal === undefined ? undefined : { principal };
  }

  async #serveTokens(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const form =
      request.method === "POST"
        ? new URLSearchParams((await readWhole(request)).toString())
        : url.searchParams;
    if (form.get("service") !== this.host) {
      throw new Refusal(400, "BAD_REQUEST", `the service is not ${this.host}`);
    }
    const caller = this.#callerOf(request, url.pathname, form);
    const given =
      url.pathname === "/oauth2/exchange"
        ? { refresh_token: this.#tokens.issueRefresh(caller) }
        : {
            access_token: this.#tokens.issueAccess(
              caller,
              form.getAll("scope").flatMap((each) => each.split(" ")),
            ),
          };
    const body = JSON.stringify(given);
    response.writeHead(200, { "content-type": "application/json; charset=utf-8" }).end(body);
  }

  #callerOf({ headers, method }: IncomingMessage, path: string, form: URLSearchParams): Caller {
    const field = (name: string): string => form.get(name) ?? "";
    const grant = method === "GET" ? "basic" : field("grant_type");
    const caller = ((): Caller | undefined => {
      if (path === "/oauth2/exchange") {
        return grant === "access_token" ? this.#byEntra(field("access_token")) : undefined;
      }
      switch (grant) {
        case "basic":
          return this.#byPassword(...credentialsOf(headers.authorization?.split(" ")[1] ?? ""));
        case "refresh_token":
          return this.#tokens.byRefresh(field("refresh_token"));
        case "password":
          return this.#byPassword(field("username"), field("password"));
        default:
          return undefined;
      }
    })();
    if (caller === undefined) {
      throw new Refusal(401, "UNAUTHORIZED", "authentication required");
    }
    return caller;
  }

  #byEntra(token: string): Caller | undefined {
    try {
      return { principal: this.#context.entra.callerOf(`Bearer ${token}`, audiences) };
    } catch (error) {
      if (error instanceof TokenRefused) {
        return undefined;
      }
      throw error;
    }
  }
}

interface Route {
  /** Undefined: the root of the protocol. */
  readonly repository: string | undefined;
  readonly kind: "manifests" | "blobs" | "uploads" | "tags" | undefined;
}

function routeOf(pathname: string): Route {
  if (/^\/v2\/?$/.test(pathname)) {
    return { repository: undefined, kind: undefined };
  }
  const upload = /^\/v2\/(.+)\/blobs\/uploads\//.exec(pathname);
  const other = /^\/v2\/(.+)\/(manifests|blobs|tags)\/[^/]+$/.exec(pathname);
  const repository = upload?.[1] ?? other?.[1];
  if (repository === undefined) {
    throw new Refusal(404, "UNSUPPORTED", `not simulated: ${pathname}`);
  }
  return { repository, kind: upload === null ? (other?.[2] as Route["kind"]) : "uploads" };
}

function actionOf(method: string, kind: Route["kind"]): Action {
  if (kind === "tags") {
    return "metadata_read";
  }
  if (method === "DELETE" && kind !== "uploads") {
    return "delete";
  }
  return (method === "GET" || method === "HEAD") && kind !== "uploads" ? "pull" : "push";
}

function grants(access: readonly Access[], repository: string, action: Action): boolean {
  return access.some(
    (each) =>
      each.repository === repository &&
      // Listing tags needs `metadata_read`, or the right to pull.
      (each.actions.includes(action) || (action === "metadata_read" && each.actions.includes("pull"))),
  );
}

function credentialsOf(encoded: string): [user: string, password: string] {
  const text = Buffer.from(encoded, "base64").toString();
  const at = text.indexOf(":");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
