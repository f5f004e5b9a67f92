/** Addresses of registries, and how far each is trusted. */
import { isIPv4 } from "node:net";

import { isInRange } from "../../../common/address-range.ts";
import { invalid } from "../../../common/errors.ts";

/** One address at which a registry may be. */
export interface RegistryEndpoint {
  readonly url: URL;
  /** Its certificate is not checked. */
  readonly insecure: boolean;
  /** It is on this machine: no proxy stands between. */
  readonly local: boolean;
}

const dockerHub = "registry-1.docker.io";

/**
 * The addresses to try, in this order. Registries on this machine and those configured as insecure are also asked
 * without TLS, as Docker does.
 *
 * @param domain as in a reference: `docker.io`, `localhost:5000`
 * @param insecureHosts `host`, `host:port`, or a range of addresses (`192.168.1.0/24`), which names are not looked up for
 */
export function registryEndpoints(domain: string, insecureHosts: readonly string[]): RegistryEndpoint[] {
  const host = domain === "docker.io" || domain === "index.docker.io" ? dockerHub : domain;
  const hostname = URL.parse(`https://${host}`)?.hostname;
  if (hostname === undefined) {
    // The grammar of references allows ports that no URL has.
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

/** Whether a host is this machine, whatever its names. */
export function isLoopback(hostname: string): boolean {
  return (
    hostname === "localhost" || hostname === "[::1]" || (isIPv4(hostname) && hostname.startsWith("127."))
  );
}
