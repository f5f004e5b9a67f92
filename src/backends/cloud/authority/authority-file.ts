/** The key and certificate of an instance's certificate authority for agents, as configured. */
import "reflect-metadata";

import { randomBytes } from "node:crypto";
import { link, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

import { errnoOf, fromFileError, invalid, messageOf, systemError } from "../../../common/errors.ts";
import { makeDirectories } from "../../../common/make-directories.ts";

/** ECDSA on P-256, supported by every TLS library. */
export const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** A serial number for a certificate: 127 random bits in hexadecimal, positive as X.509 requires. */
export function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x01;
  return bytes.toString("hex");
}

/** An authority's key and certificate. */
export interface AuthorityKey {
  readonly certificate: X509Certificate;
  readonly privateKey: CryptoKey;
  /** The private key, PKCS #8; other keys of the instance are derived from it. */
  readonly secret: Uint8Array;
}

const pemBeginning = "-----BEGIN ";
const privateKeyLabel = "PRIVATE KEY";
const certificateLabel = "CERTIFICATE";
/** The certificate does not expire: an authority is replaced by hand, with its tasks. */
const validYears = 50;
/** Certificates are backdated by this, because clocks differ, by hours where a time zone is mistaken. */
export const backdatedMs = 24 * 3_600_000;

/**
 * Reads the authority; creates its file if missing.
 *
 * @param given a path, or the PEM text itself: a private key (PKCS #8, P-256) and its certificate
 * @throws invalid: malformed, or the file is readable by others
 */
export async function readAuthority(given: string): Promise<AuthorityKey> {
  if (given.includes(pemBeginning)) {
    return await parseAuthority(given, "agent_ca");
  }
  for (;;) {
    try {
      const { mode } = await stat(given);
      if ((mode & 0o077) !== 0) {
        throw invalid(`${given}: the key of the agents' authority can be read by others: chmod 600`);
      }
      return await parseAuthority(await readFile(given, "utf8"), given);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") {
        throw fromFileError(error);
      }
    }
    await makeFile(given);
  }
}

async function parseAuthority(pem: string, name: string): Promise<AuthorityKey> {
  const parts = PemConverter.decodeWithHeaders(pem);
  const key = parts.find(({ type }) => type === privateKeyLabel)?.rawData;
  const certificate = parts.find(({ type }) => type === certificateLabel)?.rawData;
  if (key === undefined || certificate === undefined) {
    throw invalid(`${name}: a private key and a certificate in PEM are wanted`);
  }
  try {
    const parsed = new X509Certificate(certificate);
    const privateKey = await crypto.subtle.importKey("pkcs8", key, keyAlgorithm, false, ["sign"]);
    await checkPair(privateKey, parsed);
    return { certificate: parsed, privateKey, secret: new Uint8Array(key) };
  } catch (error) {
    throw invalid(`${name}: ${messageOf(error)}`, error);
  }
}

async function checkPair(privateKey: CryptoKey, certificate: X509Certificate): Promise<void> {
  const probe = new Uint8Array(32);
  const publicKey = await certificate.publicKey.export(keyAlgorithm, ["verify"]);
  const signature = await crypto.subtle.sign(keyAlgorithm, privateKey, probe);
  if (!(await crypto.subtle.verify(keyAlgorithm, publicKey, signature, probe))) {
    throw systemError("the private key is not the certificate's");
  }
}

/** Writes a new authority atomically, unless another process has done so meanwhile. */
async function makeFile(path: string): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  try {
    await makeDirectories(dirname(path), 0o700);
    await writeFile(temporary, await makeAuthority(), { mode: 0o600, flag: "wx", flush: true });
    await link(temporary, path).catch((error: unknown) => {
      if (errnoOf(error) !== "EEXIST") {
        throw error;
      }
    });
  } catch (error) {
    throw fromFileError(error, `cannot make the agents' authority: ${messageOf(error)}`);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function makeAuthority(): Promise<string> {
  const keys = await crypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
  const notBefore = new Date(Date.now() - backdatedMs);
  const notAfter = new Date(notBefore);
  notAfter.setFullYear(notAfter.getFullYear() + validYears);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: "CN=sockerless agents' authority",
    notBefore,
    notAfter,
    keys,
    signingAlgorithm: keyAlgorithm,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    ],
  });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return `${PemConverter.encode(key, privateKeyLabel)}\n${certificate.toString("pem")}\n`;
}
