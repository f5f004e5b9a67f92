/** The certificate authorities whose word is taken for a server's name. */
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";

let authorities: readonly string[] | undefined;
let context: SecureContext | undefined;

/** Node's authorities and the system's, where companies install their own, in PEM. Reading them takes a while. */
export function authorityCertificates(): readonly string[] {
  authorities ??= [...new Set([...getCACertificates("default"), ...getCACertificates("system")])];
  return authorities;
}

/** The same, for TLS in this process. */
export function trustedAuthorities(): SecureContext {
  context ??= createSecureContext({ ca: [...authorityCertificates()] });
  return context;
}
