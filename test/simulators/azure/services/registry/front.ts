/**
 * The registry of Azure Container Registry: the Docker registry protocol before a real `docker-registry`, with ACR's
 * tokens, roles for each step, and layers that lie in a storage account.
 */
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  request as sendRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";

import type { Context } from "../../context.ts";
import { TokenRefused } from "../../entra/entra.ts";
import type { DockerRegistry } from "../../../common/registry/docker-registry.ts";
import { type Access, type Action, type Caller, type RegistryTokens, tokenUser } from "./tokens.ts";

/** The settings of a registry that its front asks. */
export interface RegistryAccount {
  readonly name: string;
  readonly password: string;
}

/** A refusal in the registry protocol's form. */
class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  /** The scope that a token would need. */
  readonly scope: string | undefined;

  constructor(status: number, code: string, message: string, scope?: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.scope = scope;
  }
}

/** Tokens for Resource Manager are what ACR exchanges. */
const audiences = [
  "https://management.azure.com",
  "https://management.core.windows.net",
  "https://containerregistry.azure.net",
];

/** The registry's two listeners: the protocol, and the storage account where layers lie. */
export class RegistryFront implements AsyncDisposable {
  readonly #context: Context;
  readonly #account: RegistryAccount;
  readonly #tokens: RegistryTokens;
  readonly #start: () => Promise<DockerRegistry>;
  #registry: Promise<DockerRegistry> | undefined;
  readonly #server: Server;
  readonly #storage: Server;

  /** @param start starts the real registry, at the first request */
  constructor(
    context: Context,
    account: RegistryAccount,
    tokens: RegistryTokens,
    start: () => Promise<DockerRegistry>,
  ) {
    this.#context = context;
    this.#account = account;
    this.#tokens = tokens;
    this.#start = start;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#storage = createServer((request, response) => void this.#serveLayer(request, response));
  }

  async listen(): Promise<void> {
    for (const server of [this.#server, this.#storage]) {
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
    }
  }

  /** `127.0.0.1:port`: the login server. */
  get host(): string {
    return hostOf(this.#server);
  }

  /** `127.0.0.1:port` of the registry behind, which lets everybody in. */
  async behind(): Promise<string> {
    this.#registry ??= this.#start();
    return `127.0.0.1:${(await this.#registry).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.#server, this.#storage]) {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    }
    await (await this.#registry)?.[Symbol.asyncDispose]();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? "/", "http://registry");
      if (url.pathname === "/oauth2/token" || url.pathname === "/oauth2/exchange") {
        await this.#serveTokens(request, response, url);
      } else {
        await this.#serveProtocol(request, response, url);
      }
    } catch (error) {
      request.resume();
      if (error instanceof Refusal && !response.headersSent) {
        this.#refuse(response, error);
      } else {
        response.destroy();
      }
    }
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
        const location = `http://${hostOf(this.#storage)}${url.pathname}?sig=simulated`;
        response.writeHead(307, { location, "content-length": 0 }).end();
        return;
      }
    }
    await this.#pass(request, response, url.pathname + url.search);
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

  /** The storage account where layers lie: its addresses are signed, and it takes no other credentials. */
  async #serveLayer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = new URL(request.url ?? "/", "http://storage");
    if (request.headers.authorization !== undefined || !target.searchParams.has("sig")) {
      const message = "Authentication information is not given in the correct format.";
      response.writeHead(400, { "content-type": "application/xml" });
      response.end(`<Error><Code>InvalidAuthenticationInfo</Code><Message>${message}</Message></Error>`);
      return;
    }
    await this.#pass(request, response, target.pathname).catch(() => response.destroy());
  }

  /** Hands a request to the real registry, and its answer back. */
  async #pass(request: IncomingMessage, response: ServerResponse, target: string): Promise<void> {
    const { authorization: _ours, ...headers } = request.headers;
    const [host, port] = (await this.behind()).split(":");
    const passed = sendRequest({ host, port, method: request.method, path: target, headers });
    const answered = once(passed, "response") as Promise<[IncomingMessage]>;
    await Promise.all([
      pipeline(request, passed),
      answered.then(async ([answer]) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        await pipeline(answer, response);
      }),
    ]);
  }

  #refuse(response: ServerResponse, { status, code, message, scope }: Refusal): void {
    const body = JSON.stringify({ errors: [{ code, message }] });
    const wanted = scope === undefined ? "" : `,scope="${scope}",error="insufficient_scope"`;
    const challenge = `Bearer realm="http://${this.host}/oauth2/token",service="${this.host}"${wanted}`;
    response.writeHead(status, {
      "content-type": "application/json; charset=utf-8",
      "content-length": Buffer.byteLength(body),
      ...(status === 401 ? { "www-authenticate": challenge } : {}),
    });
    response.end(response.req.method === "HEAD" ? undefined : body);
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

function hostOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function readWhole(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}
