/** Certificates for tests of mutual TLS, made by openssl when they are needed. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

import type { TlsFiles } from "../../src/common/config/load.ts";

const run = promisify(execFile);

/** Paths of PEM files: an authority, and what it signed for `localhost` and 127.0.0.1. */
export interface TestCertificates {
  readonly server: TlsFiles;
  readonly client: TlsFiles;
}

/**
 * Makes an authority and one certificate each for a server and a client, valid for a day.
 *
 * @param directory where the files are put
 */
export async function makeCertificates(directory: string): Promise<TestCertificates> {
  const path = (name: string): string => join(directory, name);
  const ca = path("ca.pem");
  await openssl([
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"],
    ...["-subj", "/CN=test authority", "-keyout", path("ca-key.pem"), "-out", ca],
  ]);
  const signed = async (name: string): Promise<TlsFiles> => {
    const cert = path(`${name}.pem`);
    const key = path(`${name}-key.pem`);
    await openssl([
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"],
      ...["-subj", `/CN=${name}`, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
      ...["-addext", "basicConstraints=critical,CA:FALSE"],
      ...["-CA", ca, "-CAkey", path("ca-key.pem"), "-keyout", key, "-out", cert],
    ]);
    return { ca, cert, key };
  };
  return { server: await signed("server"), client: await signed("client") };
}

async function openssl(args: readonly string[]): Promise<void> {
  await run("openssl", [...args]);
}
