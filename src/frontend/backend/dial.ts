/** Dialling a backend's port. */
import { isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";

import type { BackendReach } from "../streams/agent-targets.ts";

/**
 * Connects to a port over TLS, for HTTP/2.
 *
 * @param tls client certificate and certificate authority; undefined: no client certificate is presented
 */
export function dialTls({ address, tls }: BackendReach): TLSSocket {
  const { hostname, port } = new URL(address);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return connect({
    host,
    port: Number(port || 443),
    ...(isIP(host) === 0 && { servername: host }),
    ALPNProtocols: ["h2"],
    minVersion: "TLSv1.2",
    ...(tls !== undefined && { ca: tls.authority, cert: tls.certificate, key: tls.key }),
  });
}
