/** Calls of the Docker API, as Docker's own clients make them. */
import { readFile } from "node:fs/promises";
import type { RequestOptions } from "node:http";
import { join } from "node:path";

import { invalid, notFound, systemError } from "../common/errors.ts";
import { connectionTo, get } from "./http-get.ts";

/**
 * Asks the Docker API.
 *
 * @param host `unix:///path` or `tcp://host:port`
 * @param path and query, without an API version
 * @param environment read for Docker's TLS variables
 * @returns the parsed JSON answer
 * @throws not-found, system: with the message of the answer; system: nothing answers
 */
export async function askDocker(
  host: string,
  path: string,
  environment: NodeJS.ProcessEnv,
): Promise<unknown> {
  return JSON.parse(await askDockerText(host, path, environment)) as unknown;
}

/** As {@link askDocker}, for an answer of several documents. @returns its text */
export async function askDockerText(
  host: string,
  path: string,
  environment: NodeJS.ProcessEnv,
): Promise<string> {
  const { status, body } = await get("the Docker API", { ...(await addressOf(host, environment)), path });
  if (status !== 200) {
    const { message } = JSON.parse(body) as { readonly message?: string };
    const refused = status === 404 ? notFound : systemError;
    throw refused(message ?? `the Docker API answered ${status}`);
  }
  return body;
}

interface Address extends RequestOptions {
  /** Certificates for TLS; absent without TLS. */
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

async function addressOf(host: string, environment: NodeJS.ProcessEnv): Promise<Address> {
  const isSocket = host.startsWith("unix://");
  if (!isSocket && !URL.canParse(host)) {
    throw invalid(`${host} is no address of the Docker API`);
  }
  const at = connectionTo(host);
  if (isSocket || (environment["DOCKER_TLS_VERIFY"] ?? "") === "") {
    return at;
  }
  const folder = environment["DOCKER_CERT_PATH"] ?? join(environment["HOME"] ?? "", ".docker");
  const [ca, cert, key] = await Promise.all(
    ["ca.pem", "cert.pem", "key.pem"].map((name) => readFile(join(folder, name))),
  );
  return { ...at, ca, cert, key } as Address;
}
