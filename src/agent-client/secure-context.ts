/** What a client shows to agents, as TLS takes it. */
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";

import type { ClientCredentials } from "./address.ts";

/** Reading keys and certificates takes longer than the rest of a connection's beginning. */
const contexts = new WeakMap<ClientCredentials, SecureContext>();

/** For connections whose server is known by its key: made once for the same credentials. */
export function secureContextOf(credentials: ClientCredentials): SecureContext {
  const known = contexts.get(credentials);
  if (known !== undefined) {
    return known;
  }
  const made = createSecureContext(pemOptions(credentials));
  contexts.set(credentials, made);
  return made;
}

/** TLS 1.3 and nothing older. */
export function pemOptions({ key, certificateChain }: ClientCredentials): SecureContextOptions {
  return { key, cert: certificateChain, minVersion: "TLSv1.3" };
}
