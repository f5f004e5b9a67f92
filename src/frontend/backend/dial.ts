/** Dialling a backend's port. */
import { isIP } from "node:net";
import { connect, type TLSSocket } from "node:tls";

import { type BackendReach, hostAndPortOf } from "../streams/agent-targets.ts";

/**
 * Connects to a port over TLS, for HTTP/2.
 *
 * @param tls client certificate and certificate authority; undefined: no client certificate is presented
 */
export function dialTls({ address, tls }: BackendReach): TLSSocket {
  const { host, port } = hostAndPortOf(address);
  return connect({
    host,
    port,
    ...(isIP(host) === 0 && { servername: host }),
    ALPNProtocols: ["h2"],
    minVersion: "TLSv1.2",
    ...(tls !== undefined && { ca: tls.authority, cert: tls.certificate, key: tls.key }),
  });
}
