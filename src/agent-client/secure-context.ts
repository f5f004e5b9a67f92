/** TLS contexts for clients' credentials. */
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";

import { getOrInsert } from "../common/get-or-insert.ts";
import type { ClientCredentials } from "./address.ts";

/** Contexts by credentials: parsing keys and certificates is the slowest step of a new connection. */
const contexts = new WeakMap<ClientCredentials, SecureContext>();

/** A context for connections to servers known by their key; made once for the same credentials. */
export function secureContextOf(credentials: ClientCredentials): SecureContext {
  return getOrInsert(contexts, credentials, () => createSecureContext(pemOptions(credentials)));
}

/** TLS options for a client's credentials: TLS 1.3 only. */
export function pemOptions({ key, certificateChain }: ClientCredentials): SecureContextOptions {
  return { key, cert: certificateChain, minVersion: "TLSv1.3" };
}
