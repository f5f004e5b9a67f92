/**
 * The certificate authority of this instance's agents: each agent admits only holders of a certificate for its
 * container.
 */
import "reflect-metadata";

import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";

import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

import type { ClientCredentials } from "../../../agent-client/address.ts";
import type { Clock } from "../../../common/clock.ts";
import { invalid } from "../../../common/errors.ts";
import { KeptAnswers } from "../../concurrency/kept-answers.ts";
import { Lock } from "../../concurrency/serial.ts";
import type { AgentAuthority, IssuedCertificate } from "../../driver/agents.ts";
import { type AuthorityKey, backdatedMs, keyAlgorithm, randomSerial } from "./authority-file.ts";

/** The authority of a cloud backend, with its pin for tasks. */
export interface CloudAuthority extends AgentAuthority {
  credentialsFor(containerId: string): Promise<ClientCredentials>;
  /** SHA-256 of its SubjectPublicKeyInfo, by which agents identify it. */
  readonly pin: Uint8Array;
}

/** Roles that a certificate can grant at a container's agent. */
type Holder = "client" | "partner" | "peer";

/**
 * Validity of certificates in milliseconds, and the time for which one is reused; clients with the same one share a
 * connection. It is only checked when a connection is opened, so it need not outlast a few attempts.
 */
const clientTerm = { validMs: 10 * 60_000, reusedMs: 5 * 60_000 };
/** Sent to agents, which open connections even while this process is away; some take long to renew, one after the other. */
const partnerTerm = {
  validMs: 60 * 60_000,
  renewedMs: 30 * 60_000,
  lastMs: { partner: 30 * 60_000, peer: 5 * 60_000 },
};
/** Maximum number of cached certificates; the oldest are dropped first. */
const maxKept = 10_000;

/** The certificate authority of an instance's agents. */
export async function createAuthority(key: AuthorityKey, clock: Clock): Promise<CloudAuthority> {
  const own = await crypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]);
  const ownKey = PemConverter.encode(await crypto.subtle.exportKey("pkcs8", own.privateKey), "PRIVATE KEY");
  const authorityPem = key.certificate.toString("pem");
  const { reusedMs } = clientTerm;
  const ownCertificates = new KeptAnswers<ClientCredentials>(clock, reusedMs, maxKept);
  const clientsCertificates = new KeptAnswers<readonly Uint8Array[]>(clock, reusedMs, maxKept);
  // Milliseconds each, and a crowd of containers asks at once: other calls go on between two of them.
  const issues = new Lock();
  const authorityDer = new Uint8Array(key.certificate.rawData);

  const issue = (holder: Holder, containerId: string, publicKey: CryptoKey): Promise<X509Certificate> =>
    X509CertificateGenerator.create({
      serialNumber: randomSerial(),
      subject: `CN=${holder} of ${containerId.slice(0, 12)}`,
      // The original bytes: encoding the text again could change the type of its string, and agents would see another
      // name.
      issuer: key.certificate.subjectName,
      notBefore: new Date(clock.nowMs() - backdatedMs),
      notAfter: new Date(clock.nowMs() + (holder === "client" ? clientTerm : partnerTerm).validMs),
      publicKey,
      signingKey: key.privateKey,
      signingAlgorithm: keyAlgorithm,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth]),
        new SubjectAlternativeNameExtension([
          {
            type: "url",
            value: holder === "client" ? containerUri(containerId) : `${containerUri(containerId)}/${holder}`,
          },
        ]),
      ],
    });

  const ownCredentials = async (containerId: string): Promise<ClientCredentials> => {
    const leaf = await issue("client", containerId, own.publicKey);
    return { key: ownKey, certificateChain: `${leaf.toString("pem")}\n${authorityPem}\n` };
  };

  const issueTo = async (
    holder: Holder,
    containerId: string,
    publicKey: Uint8Array,
  ): Promise<readonly Uint8Array[]> => {
    const leaf = await issue(holder, containerId, await importPublicKey(publicKey));
    return [new Uint8Array(leaf.rawData), authorityDer];
  };

  const issueToAgent = (
    holder: "partner" | "peer",
    containerId: string,
    publicKey: Uint8Array,
  ): Promise<IssuedCertificate> =>
    issues.run(async () => {
      await nextTurn();
      const endMs = clock.nowMs() + partnerTerm.validMs;
      return {
        chain: await issueTo(holder, containerId, publicKey),
        renewedFromMs: endMs - partnerTerm.renewedMs,
        goodUntilMs: endMs - partnerTerm.lastMs[holder],
      };
    });

  return {
    pin: createHash("sha256").update(new Uint8Array(key.certificate.publicKey.rawData)).digest(),
    credentialsFor: (containerId) => ownCertificates.of(containerId, () => ownCredentials(containerId)),
    certify: (containerId, publicKey) =>
      clientsCertificates.of(holding(containerId, publicKey), () =>
        issueTo("client", containerId, publicKey),
      ),
    certifyPartner: (containerId, publicKey) => issueToAgent("partner", containerId, publicKey),
    certifyPeer: (containerId, publicKey) => issueToAgent("peer", containerId, publicKey),
  };
}

/** The cache key of a certificate: its container and its holder's public key. */
function holding(containerId: string, publicKey: Uint8Array): string {
  return `${containerId} ${Buffer.from(publicKey).toString("base64")}`;
}

/**
 * The name in both certificates of a connection: the agent's, and those of its clients. Partners have the suffix
 * `/partner` and peers `/peer`; agents that know neither refuse these.
 */
function containerUri(containerId: string): string {
  return `sockerless://container/${containerId}`;
}

async function importPublicKey(spki: Uint8Array): Promise<CryptoKey> {
  try {
    return await crypto.subtle.importKey("spki", new Uint8Array(spki), keyAlgorithm, true, ["verify"]);
  } catch (error) {
    throw invalid("the client's public key must be an ECDSA key on P-256 (SubjectPublicKeyInfo, DER)", error);
  }
}
