/**
 * The places where clients get tokens: Entra ID's own (`/TENANT/oauth2/v2.0/token`, TLS), and those of managed identities
 * (plain HTTP on the real ones too): the one of App Service and Container Apps (`IDENTITY_ENDPOINT`) and that of virtual
 * machines (IMDS).
 */
import type { Context } from "../context.ts";
import type { WireAnswer, WireRequest } from "../../common/wire/http-endpoint.ts";
import type { Principal } from "./entra.ts";

/** Paths of the endpoint for managed identities. */
export const identityPaths = {
  appService: "/msi/token",
  imds: "/metadata/identity/oauth2/token",
} as const;

/** Answers a request to Entra ID; undefined: it is none. */
export function serveEntra(context: Context, request: WireRequest): WireAnswer | undefined {
  const { tenantId } = context;
  const { pathname } = request.url;
  const [, tenant = "", what = ""] = /^\/([^/]+)\/(.+)$/.exec(pathname) ?? [];
  if (what === "v2.0/.well-known/openid-configuration" || what === "discovery/instance") {
    const origin = `https://${String(request.headers["host"] ?? "")}`;
    return answer(200, {
      tenant_discovery_endpoint: `${origin}/${tenantId}/v2.0/.well-known/openid-configuration`,
      issuer: `${origin}/${tenantId}/v2.0`,
      authorization_endpoint: `${origin}/${tenantId}/oauth2/v2.0/authorize`,
      token_endpoint: `${origin}/${tenantId}/oauth2/v2.0/token`,
      jwks_uri: `${origin}/${tenantId}/discovery/v2.0/keys`,
    });
  }
  if (what !== "oauth2/v2.0/token") {
    return undefined;
  }
  if (tenant !== tenantId) {
    return refusal(400, "invalid_request", `AADSTS90002: Tenant '${tenant}' not found.`);
  }
  return issueToApplication(context, new URLSearchParams(request.body.toString()));
}

function issueToApplication(context: Context, form: URLSearchParams): WireAnswer {
  const { entra } = context;
  const clientId = form.get("client_id") ?? "";
  const scope =
    form
      .get("scope")
      ?.split(" ")
      .find((each) => each.includes("/.default")) ?? "";
  if (form.get("grant_type") !== "client_credentials") {
    return refusal(
      400,
      "unsupported_grant_type",
      "AADSTS70003: The app requested an unsupported grant type.",
    );
  }
  if (!scope.endsWith("/.default")) {
    return refusal(400, "invalid_scope", "AADSTS1002012: The provided value for scope is not valid.");
  }
  if (entra.principal(clientId) === undefined) {
    const message = `AADSTS700016: Application with identifier '${clientId}' was not found in the directory.`;
    return refusal(400, "unauthorized_client", message);
  }
  const principal = entra.authenticate(clientId, form.get("client_secret") ?? "");
  if (principal === undefined) {
    return refusal(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.");
  }
  const { token } = record(context, principal, scope.slice(0, -"/.default".length));
  const { tokenSeconds } = entra;
  return answer(200, {
    token_type: "Bearer",
    expires_in: tokenSeconds,
    ext_expires_in: tokenSeconds,
    access_token: token,
  });
}

/** Answers a request for a managed identity's token; IMDS gives the administrator's. */
export function serveIdentity(context: Context, { method, url, headers }: WireRequest): WireAnswer {
  const { entra } = context;
  const isImds = url.pathname === identityPaths.imds;
  if (method !== "GET" || (!isImds && url.pathname !== identityPaths.appService)) {
    return refusal(404, "not_found", `${method} ${url.pathname} is not served`);
  }
  const byHeader = entra.byHeader(String(headers["x-identity-header"] ?? ""));
  const identity = isImds ? (headers["metadata"] === "true" ? entra.administrator : undefined) : byHeader;
  if (identity === undefined) {
    return refusal(isImds ? 400 : 401, "invalid_request", "Required metadata header not specified");
  }
  const version = isImds ? "2018-02-01" : "2019-08-01";
  if (url.searchParams.get("api-version") !== version) {
    return refusal(400, "invalid_request", `api-version is not ${version}`);
  }
  const resource = url.searchParams.get("resource") ?? "";
  const clientId = url.searchParams.get("client_id");
  if (!/^https:\/\/.+/.test(resource)) {
    return refusal(
      400,
      "invalid_resource",
      `AADSTS500011: The resource principal named ${resource} was not found`,
    );
  }
  if (clientId !== null && clientId !== identity.clientId) {
    return refusal(400, "invalid_request", "Identity not found");
  }
  const { token, expiresAt } = record(context, identity, resource);
  return answer(200, {
    access_token: token,
    expires_on: String(Math.floor(expiresAt / 1000)),
    resource,
    token_type: "Bearer",
    client_id: identity.clientId,
    ...(isImds && { expires_in: String(entra.tokenSeconds), not_before: "0" }),
  });
}

function record(
  context: Context,
  principal: Principal,
  audience: string,
): ReturnType<Context["entra"]["issue"]> {
  context.calls.record({
    service: "entra",
    operation: "Token",
    principal: principal.objectId,
    requestId: "",
    input: { audience },
    status: 200,
    at: context.clock.nowMs(),
    tookMs: 0,
  });
  return context.entra.issue(principal, audience);
}

function answer(status: number, body: object): WireAnswer {
  return {
    status,
    headers: { "content-type": "application/json; charset=utf-8" },
    body: JSON.stringify(body),
  };
}

function refusal(status: number, error: string, description: string): WireAnswer {
  return answer(status, { error, error_description: description });
}
