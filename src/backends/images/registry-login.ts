/** `docker login`: verifies credentials at their registry. */
import { invalid, messageOf } from "../../common/errors.ts";
import type { Credentials } from "./registry/credentials.ts";
import { Registry, type RegistryOptions } from "./registry/registry.ts";
import { loginError } from "./registry/registry-errors.ts";

/** The result of a login. */
export interface LoginResult {
  readonly status: string;
  /** Replaces the password, if the registry has such tokens; otherwise empty. */
  readonly identityToken: string;
}

/** Time limit for the registry's answer, in milliseconds. */
const loginTimeoutMs = 15_000;

/**
 * Verifies credentials.
 *
 * @param serverAddress host, or the address that Docker stores (`https://index.docker.io/v1/`); empty: Docker Hub
 * @throws unauthorized: refused; system: the registry's failure; invalid: not an address
 */
export async function login(
  credentials: Credentials,
  serverAddress: string,
  options: RegistryOptions,
  signal: AbortSignal,
): Promise<LoginResult> {
  const domain = domainOf(serverAddress);
  const limited = AbortSignal.any([signal, AbortSignal.timeout(loginTimeoutMs)]);
  let address = `https://${domain}/v2/`;
  try {
    using registry = await Registry.connect(domain, credentials, options, limited);
    address = new URL("/v2/", registry.url).href;
    await registry.checkCredentials(limited);
    return { status: "Login Succeeded", identityToken: registry.refreshToken ?? "" };
  } catch (error) {
    signal.throwIfAborted();
    throw loginError(error, address);
  }
}

function domainOf(serverAddress: string): string {
  if (serverAddress === "") {
    return "docker.io";
  }
  const written = /^https?:\/\//.test(serverAddress) ? serverAddress : `https://${serverAddress}`;
  try {
    return new URL(written).host;
  } catch (error) {
    throw invalid(`unable to parse server address: ${messageOf(error)}`, error);
  }
}
