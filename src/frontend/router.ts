/** The route table's types, and finding the route of a request. */
import type { RequestKind } from "./admission.ts";
import { type ApiVersion, type ApiVersionText, negotiateApiVersion } from "./api-version.ts";
import type {
  HijackContext,
  ReplyContext,
  RequestContext,
  TakeContext,
  TakenUpload,
} from "./request-context.ts";
import type { HeldCall } from "./streams/hand-over.ts";

/** The methods that the Engine API uses. */
export type HttpMethod = "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS";

interface RouteDescription {
  readonly method: HttpMethod;
  /**
   * The path after the version prefix. `{name}` stands for any text, slashes included (`/images/{name}/json`
   * is `/images/registry:5000/a/b/json` too), as in dockerd. The first matching route in the table is taken.
   */
  readonly path: string;
  /** The first API version that has the endpoint; before it the path is unknown. */
  readonly since?: ApiVersionText;
  /** The last API version that has the endpoint. */
  readonly until?: ApiVersionText;
  /**
   * The frontend alone, without a call to another process, which is admitted at once; or nobody: it is refused.
   * Undefined: every backend, as the engine behaves the same on all.
   */
  readonly answeredBy?: "frontend" | "nobody";
  /** Undefined: a call. */
  readonly kind?: RequestKind;
  /** A note for the coverage table, one short sentence. */
  readonly note?: string;
}

/**
 * Parts of a request that the process that holds the bytes can serve on the client's own connection, if that may be
 * handed over ({@link HandOver.mayHandOver}). Decided before the route runs; otherwise its handler serves them, through
 * a worker.
 */
export type HandsOver =
  /** The call by which the forwarder answers; if undefined, rejected or refused, the handler answers. */
  | { readonly part: "answer"; readonly call: (context: RequestContext) => Promise<HeldCall | undefined> }
  /** An agent writes the body after the handler's header. */
  | { readonly part: "body" }
  /** An agent reads the body; if undefined or rejected, the handler does. */
  | { readonly part: "upload"; readonly take: (context: TakeContext) => Promise<TakenUpload | undefined> };

/** An endpoint that answers with an ordinary response. */
export interface ReplyRoute extends RouteDescription {
  readonly hijack?: false;
  /** Undefined if the handler always reads the body and writes the answer. */
  readonly handsOver?: HandsOver;
  /** Named by method and path, as in dockerd: `postContainersStart`. */
  readonly handler: (context: ReplyContext) => Promise<void>;
}

/** An endpoint that may turn the connection into a raw stream. Only these let Node upgrade a connection. */
export interface HijackRoute extends RouteDescription {
  readonly hijack: true;
  /** Errors are written as plain text with the stream's content type. */
  readonly refusesInText?: true;
  readonly handler: (context: HijackContext) => Promise<void>;
}

/** One endpoint. */
export type Route = ReplyRoute | HijackRoute;

/** A route and its path parameters. */
export interface RouteMatch {
  readonly route: Route;
  readonly parameters: Readonly<Record<string, string>>;
  readonly version: ApiVersion;
}

const versionPrefix = /^\/v([0-9.]+)(\/.*)$/;

/** Finds the route of a request. */
export class Router {
  /** By method, in the order of the table. */
  readonly #routes: ReadonlyMap<string, readonly { readonly route: Route; readonly pattern: RegExp }[]>;

  constructor(routes: readonly Route[]) {
    const patterns = routes.map((route) => ({ route, pattern: patternOf(route.path) }));
    this.#routes = Map.groupBy(patterns, ({ route }) => route.method);
  }

  /**
   * @param path the request's path, decoded, without the query
   * @returns undefined for a path that no route has (dockerd answers the same 404 where only the method is wrong)
   * @throws SockerlessError of kind `invalid` for a known path in an unsupported version
   */
  match(method: string, path: string): RouteMatch | undefined {
    const prefixed = versionPrefix.exec(path);
    const rest = prefixed?.[2] ?? path;
    for (const { route, pattern } of this.#routes.get(method) ?? []) {
      const found = pattern.exec(rest);
      if (found !== null) {
        const version = negotiateApiVersion(prefixed?.[1]);
        if (speaks(route, version)) {
          return { route, parameters: found.groups ?? {}, version };
        }
      }
    }
    return undefined;
  }
}

function speaks(route: Route, version: ApiVersion): boolean {
  const { since, until } = route;
  return (
    (since === undefined || version.atLeast(since)) &&
    (until === undefined || version.text === until || version.before(until))
  );
}

function patternOf(path: string): RegExp {
  const source = path
    .split(/(\{[a-z]+\})/i)
    .map((part) => (part.startsWith("{") ? `(?<${part.slice(1, -1)}>.*)` : RegExp.escape(part)))
    .join("");
  return new RegExp(`^${source}$`, "s");
}
