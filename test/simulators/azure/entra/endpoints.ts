/** The tokens of managed identities, as App Service and Container Apps give them (`IDENTITY_ENDPOINT`, plain HTTP there too). */
import type { Context } from "../context.ts";
import type { WireAnswer, WireRequest } from "../../common/wire/http-endpoint.ts";
import type { Principal } from "./entra.ts";

/** Path of the endpoint for managed identities. */
export const identityPath = "/msi/token";

/** Answers a request for a managed identity's token. */
export function serveIdentity(context: Context, { method, url, headers }: WireRequest): WireAnswer {
  const { entra } = context;
  if (method !== "GET" || url.pathname !== identityPath) {
    return refusal(404, "not_found", `${method} ${url.pathname} is not served`);
  }
  const identity = entra.byHeader(String(headers["x-identity-header"] ?? ""));
  if (identity === undefined) {
    return refusal(401, "invalid_request", "Required metadata header not specified");
  }
  const version = "2019-08-01";
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
