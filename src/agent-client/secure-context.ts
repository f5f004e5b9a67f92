/** TLS contexts from the credentials that a client shows to agents. */
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";

import type { ClientCredentials } from "./address.ts";

/** Contexts by credentials: reading keys and certificates takes longest when a connection begins. */
const contexts = new WeakMap<ClientCredentials, SecureContext>();

/** Makes a context, once for the same credentials, for connections whose server is known by its key. */
export function secureContextOf(credentials: ClientCredentials): SecureContext {
  const known = contexts.get(credentials);
  if (known !== undefined) {
    return known;
  }
  const made = createSecureContext(pemOptions(credentials));
  contexts.set(credentials, made);
  return made;
}

/** TLS options for a client's credentials: TLS 1.3 and nothing older. */
export function pemOptions({ key, certificateChain }: ClientCredentials): SecureContextOptions {
  return { key, cert: certificateChain, minVersion: "TLSv1.3" };
}
