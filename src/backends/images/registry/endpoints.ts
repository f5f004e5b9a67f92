/** Addresses of registries, and whether to trust each. */
import { isIPv4 } from "node:net";

import { isInRange } from "../../../common/address-range.ts";
import { invalid } from "../../../common/errors.ts";

/** A possible address of a registry. */
export interface RegistryEndpoint {
  readonly url: URL;
  /** True if its certificate is not verified. */
  readonly insecure: boolean;
  /** True if it is on this machine, so that no proxy is used. */
  readonly local: boolean;
}

const dockerHub = "registry-1.docker.io";

/**
 * The addresses to try, in order. Registries on this machine and those configured as insecure are also tried without
 * TLS, as in Docker.
 *
 * @param domain as in a reference: `docker.io`, `localhost:5000`
 * @param insecureHosts `host`, `host:port`, or an address range (`192.168.1.0/24`), for which names are not resolved
 */
export function registryEndpoints(domain: string, insecureHosts: readonly string[]): RegistryEndpoint[] {
  const host = domain === "docker.io" || domain === "index.docker.io" ? dockerHub : domain;
  const hostname = URL.parse(`https://${host}`)?.hostname;
  if (hostname === undefined) {
    // The reference grammar permits ports that are invalid in a URL.
    throw invalid(`invalid registry address: ${host}`);
  }
  const local = isLoopback(hostname);
  const insecure =
    local ||
    insecureHosts.some(
      (each) => each === host || each === hostname || isInRange(each, hostname.replace(/^\[(.*)\]$/, "$1")),
    );
  const secure = { url: new URL(`https://${host}`), insecure, local };
  return insecure ? [secure, { url: new URL(`http://${host}`), insecure, local }] : [secure];
}

/** Whether a host name is one of this machine's loopback names or addresses. */
export function isLoopback(hostname: string): boolean {
  return (
    hostname === "localhost" || hostname === "[::1]" || (isIPv4(hostname) && hostname.startsWith("127."))
  );
}
