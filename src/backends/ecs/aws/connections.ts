/** Connections to AWS: through the proxies in the environment, like those to registries. */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";

import { trustedAuthorities } from "../../images/registry/authorities.ts";
import { isLoopback } from "../../images/registry/endpoints.ts";

/** A call without an answer within this time is retried. */
const requestTimeoutMs = 30_000;
const connectTimeoutMs = 5_000;
const mostSockets = 64;

/**
 * Options of the SDK's request handler. With `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` (or in lower case) calls go
 * through proxies, unless the endpoint is on this machine; then the system's certificate authorities are trusted as
 * well, because companies' proxies terminate TLS.
 *
 * @param endpoint of the configuration; undefined for AWS's own
 */
export function connectionsTo(endpoint: string | undefined, environment: NodeJS.ProcessEnv = process.env) {
  const isLocal = endpoint !== undefined && isLoopback(URL.parse(endpoint)?.hostname ?? "");
  const proxyEnv = isLocal ? undefined : environment;
  const isProxied = !isLocal && (environment["HTTPS_PROXY"] ?? environment["https_proxy"] ?? "") !== "";
  const options = {
    keepAlive: true,
    maxSockets: mostSockets,
    ...(proxyEnv === undefined ? {} : { proxyEnv }),
  };
  return {
    connectionTimeout: connectTimeoutMs,
    requestTimeout: requestTimeoutMs,
    throwOnRequestTimeout: true,
    httpAgent: new HttpAgent(options),
    httpsAgent: new HttpsAgent({ ...options, ...(isProxied ? { secureContext: trustedAuthorities() } : {}) }),
  };
}
