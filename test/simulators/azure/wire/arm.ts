/**
 * Azure Resource Manager. A request passes the same checks as at Azure: token, API version, subscription, operation,
 * rate, permission, resource group, body; then its provider answers it.
 */
import type { Context } from "../context.ts";
import { isSame } from "../context.ts";
import { type Principal, TokenRefused } from "../entra/entra.ts";
import type { Fault } from "../../common/faults.ts";
import type { WireAnswer, WireRequest } from "../../common/wire/http-endpoint.ts";
import { type Asked, answerAndLog } from "../../common/wire/answer-and-log.ts";
import { underFault } from "../../common/wire/under-fault.ts";
import { violations } from "../models/schema.ts";
import { ArmFault } from "./fault.ts";
import type { ArmAnswer, ArmCall, ArmOperation, ResourceProvider } from "./provider.ts";

const retryAfter = { "retry-after": "1" };

/** The audiences of tokens for Azure Resource Manager. */
const audiences = ["https://management.azure.com", "https://management.core.windows.net"];

interface Route {
  readonly provider: ResourceProvider;
  readonly operation: ArmOperation;
  readonly names: readonly string[];
  readonly pattern: RegExp;
}

interface Found {
  readonly route: Route;
  readonly path: Readonly<Record<string, string>>;
}

/** Serves the operations of resource providers. */
export class Arm {
  readonly #context: Context;
  readonly #routes: Route[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  /** Adds a provider. */
  add(provider: ResourceProvider): void {
    for (const operation of provider.operations) {
      const names: string[] = [];
      const pattern = operation.path.replace(/[.]/g, "\\.").replace(/\{(\w+)\}/g, (_, name: string) => {
        names.push(name);
        return "([^/]+)";
      });
      this.#routes.push({ provider, operation, names, pattern: new RegExp(`^${pattern}$`, "i") });
    }
  }

  /** @throws ConnectionCut on demand */
  async serve(request: WireRequest, requestId: string): Promise<WireAnswer> {
    const asked: Asked = { service: "arm", operation: "", principal: "", input: undefined };
    const common = { "x-ms-request-id": requestId, "x-ms-correlation-request-id": requestId };
    const answer = async (): Promise<WireAnswer> => {
      const { status, headers, body } = await this.#answer(request, asked);
      return {
        status,
        headers: { ...common, ...json(body), ...headers },
        body: body === undefined ? "" : JSON.stringify(body),
      };
    };
    return await answerAndLog(this.#context, requestId, asked, answer, (error) => {
      const { status, code, headers, body } = ArmFault.of(error);
      return { status, code, headers: { ...common, ...json({}), ...headers }, body };
    });
  }

  async #answer(request: WireRequest, asked: Asked): Promise<ArmAnswer> {
    const { faults, clock } = this.#context;
    const origin = `https://${String(request.headers["host"] ?? "")}`;
    const principal = this.#authenticate(request, origin);
    asked.principal = principal.objectId;
    const { route, path } = this.#find(request);
    const { provider, operation } = route;
    asked.service = provider.name;
    asked.operation = operation.name;
    const body = read(request);
    const { searchParams: query } = request.url;
    asked.input = { ...path, ...Object.fromEntries(query), ...(body !== undefined && { body }) };
    this.#throttle(provider, operation, asked.input);
    const refuse = ({ code, message = "injected", status = 400 }: NonNullable<Fault["error"]>): ArmFault =>
      new ArmFault(status, code, message, status === 429 ? retryAfter : {});
    return await underFault(faults.take(provider.name, operation.name, asked.input), clock, refuse, () => {
      const scope = request.url.pathname.replace(/\/+$/, "");
      this.#authorize(principal, operation, scope);
      this.#checkGroup(path["resourceGroupName"]);
      check(operation, { path, query, body });
      const apiVersion = query.get("api-version") ?? "";
      const { headers } = request;
      const url = `${origin}${request.url.pathname}`;
      const call: ArmCall = { origin, url, apiVersion, path, query, headers, body, principal };
      return Promise.resolve(operation.run(call));
    });
  }

  #authenticate({ headers }: WireRequest, origin: string): Principal {
    const { entra, tenantId } = this.#context;
    try {
      return entra.callerOf(headers["authorization"] as string | undefined, [...audiences, origin]);
    } catch (error) {
      if (error instanceof TokenRefused) {
        const challenge = `Bearer authorization_uri="https://login.windows.net/${tenantId}", error="invalid_token", error_description="${error.message}"`;
        throw new ArmFault(401, error.code, error.message, { "www-authenticate": challenge });
      }
      throw error;
    }
  }

  #find({ method, url }: WireRequest): Found {
    const [, subscription = "", rest = ""] =
      /^\/subscriptions\/([^/]+)(\/.*?)?\/*$/i.exec(url.pathname) ?? [];
    const version = url.searchParams.get("api-version");
    if (version === null || version === "") {
      const message = `The api-version query parameter (?api-version=) is required for all requests.`;
      throw new ArmFault(400, "MissingApiVersionParameter", message);
    }
    if (!isSame(subscription, this.#context.subscriptionId)) {
      const message = `The subscription '${subscription}' could not be found.`;
      throw new ArmFault(404, "SubscriptionNotFound", message);
    }
    const there = this.#routes.flatMap((route) => {
      const match = route.pattern.exec(rest);
      return match === null ? [] : [{ route, values: match.slice(1).map(decodeURIComponent) }];
    });
    const [any] = there;
    if (any === undefined) {
      const message = `The resource type could not be found in the path '${rest}', or it is not simulated.`;
      throw new ArmFault(404, "InvalidResourceType", message);
    }
    const { namespace, apiVersions } = any.route.provider;
    if (!apiVersions.includes(version)) {
      const message = `No registered resource provider found for API version '${version}' for namespace '${namespace}'. The supported api-versions are '${apiVersions.join(", ")}'.`;
      throw new ArmFault(400, "NoRegisteredProviderFound", message);
    }
    const found = there.find(({ route }) => route.operation.method === method);
    if (found === undefined) {
      const message = `The requested resource does not support http method '${method}'.`;
      throw new ArmFault(405, "MethodNotAllowed", message);
    }
    const { route, values } = found;
    return { route, path: Object.fromEntries(route.names.map((name, index) => [name, values[index] ?? ""])) };
  }

  #throttle(provider: ResourceProvider, operation: ArmOperation, input: unknown): void {
    const { rates, subscriptionId } = this.#context;
    if (rates.take(`${provider.name}.${operation.name}`, input) !== undefined) {
      const what = `${operation.method}${operation.path.replaceAll(/\/\{\w+\}/g, "").toUpperCase()}`;
      const message = `Number of requests for subscription '${subscriptionId}' and operation '${what}' exceeded the backend storage limit. Please try again after '1' seconds.`;
      throw new ArmFault(429, "SubscriptionRequestsThrottled", message, retryAfter);
    }
  }

  #authorize(principal: Principal, { action }: ArmOperation, scope: string): void {
    if (action !== undefined && !this.#context.entra.allows(principal, action, scope)) {
      const message = `The client '${principal.clientId}' with object id '${principal.objectId}' does not have authorization to perform action '${action}' over scope '${scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.`;
      throw new ArmFault(403, "AuthorizationFailed", message);
    }
  }

  #checkGroup(group: string | undefined): void {
    if (group !== undefined && !isSame(group, this.#context.resourceGroup)) {
      throw new ArmFault(404, "ResourceGroupNotFound", `Resource group '${group}' could not be found.`);
    }
  }
}

const namePattern = /^[-\w._()]+$/;

function check(
  operation: ArmOperation,
  { path, query, body }: Pick<ArmCall, "path" | "query" | "body">,
): void {
  for (const [name, value] of Object.entries(path)) {
    if (!namePattern.test(value) || value.length > 90) {
      throw invalid(`the name '${value}' of '${name}' does not match ${namePattern.source}`);
    }
  }
  for (const name of query.keys()) {
    if (name !== "api-version" && operation.query?.includes(name) !== true) {
      throw invalid(`'${name}' is no parameter of the query`);
    }
  }
  if (operation.body === undefined ? body !== undefined : body === undefined && operation.body.required) {
    throw invalid(body === undefined ? "The request body is missing" : "The operation takes no request body");
  }
  if (operation.body !== undefined && body !== undefined) {
    const found = violations(operation.body.schema, body);
    if (found.length > 0) {
      throw invalid(found.join("; "));
    }
  }
}

function invalid(why: string): ArmFault {
  const message = `The request content was invalid and could not be deserialized: '${why}'.`;
  return new ArmFault(400, "InvalidRequestContent", message);
}

/** The body as JSON, whatever its type is said to be; undefined: it is empty. */
function read({ body, headers }: WireRequest): unknown {
  if (body.length === 0) {
    return undefined;
  }
  const type = String(headers["content-type"] ?? "");
  if (!/^application\/json\b/i.test(type)) {
    const message = `The content media type '${type}' is not supported. Only 'application/json' is supported.`;
    throw new ArmFault(415, "UnsupportedMediaType", message);
  }
  try {
    return JSON.parse(body.toString());
  } catch (error) {
    throw invalid((error as Error).message);
  }
}

function json(body: unknown): Record<string, string> {
  return body === undefined ? {} : { "content-type": "application/json; charset=utf-8" };
}
