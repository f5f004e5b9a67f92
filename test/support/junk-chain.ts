/** A chain of certificates that costs much to verify. */
import { generateKeyPairSync, randomBytes } from "node:crypto";

/** Certificates of a chain that OpenSSL looks at for 0.4 s, as long as it takes more than none. */
const longChain = 76;

/** PEM of a chain in which each certificate names the next one as its issuer, none of which was signed, and of its first key. */
export function junkChain(length = longChain): { readonly cert: string; readonly key: string } {
  const { publicKey, privateKey } = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "der" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const chain = Array.from({ length }, (_, n) => junkCertificate(n, n === 0 ? publicKey : longKey()));
  const pem = (der: Buffer): string =>
    `-----BEGIN CERTIFICATE-----\n${der.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
  return { cert: chain.map(pem).join(""), key: privateKey };
}

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const { length } = body;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
const bits = (content: Uint8Array): Buffer => der(3, Buffer.of(0), content);
/** RSA's object identifiers differ in their last byte. */
const rsa = (last: number): Buffer =>
  sequence(der(6, Buffer.from(`2a864886f70d0101${last.toString(16).padStart(2, "0")}`, "hex")), der(5));

/** A key of RSA with 3072 bits, and as many in its exponent: a signature costs milliseconds. */
function longKey(): Buffer {
  const odd = (): Buffer => {
    const number = randomBytes(384);
    number[0] = 0xc0 | (number[0] ?? 0);
    number[383] = 1 | (number[383] ?? 0);
    return der(2, Buffer.of(0), number);
  };
  return sequence(rsa(1), bits(sequence(odd(), odd())));
}

function junkCertificate(n: number, publicKey: Uint8Array): Buffer {
  const name = (of: number): Buffer =>
    sequence(der(0x31, sequence(der(6, Buffer.of(0x55, 4, 3)), der(12, Buffer.from(`C${of}`)))));
  const time = (year: number): Buffer => der(0x17, Buffer.from(`${year}0101000000Z`));
  const content = sequence(
    der(0xa0, der(2, Buffer.of(2))),
    der(2, Buffer.of(n + 1)),
    rsa(11),
    name(n + 1),
    sequence(time(20), time(49)),
    name(n),
    publicKey,
  );
  const signature = randomBytes(384);
  signature[0] = 0x3f;
  return sequence(content, rsa(11), bits(signature));
}
