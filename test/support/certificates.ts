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
 * @param purpose the only use of both, `serverAuth` or `clientAuth`; any where it is left out
 * @param names further DNS names of both
 */
export async function makeCertificates(
  directory: string,
  purpose?: string,
  names: readonly string[] = [],
): Promise<TestCertificates> {
  const subjects = ["DNS:localhost", "IP:127.0.0.1", ...names.map((name) => `DNS:${name}`)].join();
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
      ...["-subj", `/CN=${name}`, "-addext", `subjectAltName=${subjects}`],
      ...["-addext", "basicConstraints=critical,CA:FALSE"],
      ...(purpose === undefined ? [] : ["-addext", `extendedKeyUsage=${purpose}`]),
      ...["-CA", ca, "-CAkey", path("ca-key.pem"), "-keyout", key, "-out", cert],
    ]);
    return { ca, cert, key };
  };
  return { server: await signed("server"), client: await signed("client") };
}

/** Makes a certificate anew whose time ran out a day ago. @param files what {@link makeCertificates} has made */
export async function expired(files: TlsFiles): Promise<TlsFiles> {
  const cert = files.cert.replace(/\.pem$/, "-expired.pem");
  const request = `${cert}.request`;
  const authority = [
    "-CA",
    files.ca,
    "-CAkey",
    files.ca.replace(/ca\.pem$/, "ca-key.pem"),
    "-CAcreateserial",
  ];
  const kept = ["-copy_extensions", "copyall"];
  await openssl([
    ...["x509", "-x509toreq", "-in", files.cert, "-signkey", files.key, ...kept, "-out", request],
  ]);
  await openssl(["x509", "-req", "-in", request, ...authority, ...kept, "-days", "-1", "-out", cert]);
  return { ...files, cert };
}

async function openssl(args: readonly string[]): Promise<void> {
  await run("openssl", [...args]);
}
