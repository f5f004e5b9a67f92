/** Reads our certificates, and checks them before they are used, so that the error names the file instead of a TLS alert. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";

import type { TlsFiles } from "./config/load.ts";
import { fromFileError, invalid, messageOf } from "./errors.ts";

/** Purposes that a certificate must allow, with their object identifiers (RFC 5280, 4.2.1.12). */
const purposes = { serverAuth: "1.3.6.1.5.5.7.3.1", clientAuth: "1.3.6.1.5.5.7.3.2" } as const;

/** Contents of the files, in PEM. */
export type OwnCertificate = Readonly<Record<keyof TlsFiles, string>>;

/**
 * Reads an authority, a certificate and its key; checks that the certificate has not expired, and that it allows this use.
 *
 * @param purpose a certificate that states no purposes allows all
 * @throws SockerlessError that names the file
 */
export async function readOwnCertificate(
  files: TlsFiles,
  purpose: keyof typeof purposes,
): Promise<OwnCertificate> {
  const [ca, cert, key] = await Promise.all([read(files.ca), read(files.cert), read(files.key)]);
  parsed(files.ca, "certificate", () => new X509Certificate(ca));
  const certificate = parsed(files.cert, "certificate", () => new X509Certificate(cert));
  const privateKey: KeyObject = parsed(files.key, "private key", () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw invalid(`${files.key} is not the key of the certificate in ${files.cert}`);
  }
  if (certificate.validToDate.getTime() < Date.now()) {
    throw invalid(`the certificate in ${files.cert} has expired (${certificate.validTo})`);
  }
  // Node's types omit that this is undefined without the extension.
  const stated: readonly string[] | undefined = certificate.keyUsage;
  if (stated !== undefined && !stated.includes(purposes[purpose])) {
    throw invalid(`the certificate in ${files.cert} is not for ${purpose} (extendedKeyUsage)`);
  }
  return { ca, cert, key };
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw fromFileError(error, `${path}: ${messageOf(error)}`);
  }
}

function parsed<T>(file: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw invalid(`${file} holds no ${what} that can be read: ${messageOf(error)}`, error);
  }
}
