/** How AWS is connected to: through the proxies of the environment, as registries are. */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";

import { trustedAuthorities } from "../../images/registry/http-client.ts";
import { isLoopback } from "../../images/registry/endpoints.ts";

/** A call that AWS does not answer within this time is repeated. */
const requestTimeoutMs = 30_000;
const connectTimeoutMs = 5_000;
const mostSockets = 64;

/**
 * Options of the SDK's request handler. With `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` (or in small letters) calls go
 * through proxies, unless the endpoint is on this machine; whom the system trusts is trusted then too, because companies'
 * proxies open TLS.
 *
 * @param endpoint of the configuration; undefined: AWS's own
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
