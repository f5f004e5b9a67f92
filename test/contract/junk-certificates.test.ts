/** Strangers whose certificates cost much to verify: the API's other clients, by TLS and on its socket, do not wait. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { request } from "node:http";
import { request as tlsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

import { loadConfig } from "../../src/common/config/load.ts";
import { startFrontend } from "../../src/frontend/main.ts";
import { makeCertificates } from "../support/certificates.ts";

/** Certificates of a chain that OpenSSL looks at for 0.4 s, as long as it takes more than none. */
const chainLength = 76;
const strangers = 64;
/** Requests of each kind, which a server that looks at each chain would answer in minutes. */
const asked = 20;

const flood = `
const { connect } = require("node:tls");
const { parentPort, workerData: { strangers, ...options } } = require("node:worker_threads");
let ended = 0;
const come = () => connect({ ...options, host: "127.0.0.1", rejectUnauthorized: false })
  .on("error", () => {})
  .on("close", () => { if (++ended === strangers) parentPort.postMessage("refused"); setTimeout(come, 10); })
  .resume();
for (let n = 0; n < strangers; n++) come();
parentPort.postMessage("begun");
`;

test("strangers with certificates that cost much keep nobody waiting", { timeout: 55_000 }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "skl-junk-"));
  t.after(() => rm(directory, { recursive: true }));
  const { server, client } = await makeCertificates(directory);
  const socketPath = join(directory, "docker.sock");
  const flags = {
    hosts: ["tcp://127.0.0.1:0", `unix://${socketPath}`],
    backend_address: `unix://${join(directory, "backend.sock")}`,
    log_level: "silent",
    tlscacert: server.ca,
    tlscert: server.cert,
    tlskey: server.key,
  };
  const frontend = await startFrontend(
    loadConfig({ command: "frontend", environment: {}, uid: 0, flags }).config,
  );
  t.after(() => frontend.close());
  const port = Number(new URL(frontend.addresses?.[0] ?? "").port);
  const worker = new Worker(flood, { eval: true, workerData: { port, strangers, ...junkChain() } });
  t.after(() => worker.terminate());
  const refused = new Promise<void>((resolve) => {
    worker.on("message", (said) => {
      if (said === "refused") {
        resolve();
      }
    });
  });
  await once(worker, "message");
  const [ca, cert, key] = await Promise.all(
    [client.ca, client.cert, client.key].map((path) => readFile(path)),
  );
  for (let n = 0; n < asked; n++) {
    const options = { path: "/_ping", agent: false };
    const both = [
      tlsRequest({ ...options, host: "127.0.0.1", port, ca, cert, key }),
      request({ ...options, socketPath }),
    ];
    for (const each of both) {
      const [answer] = await once(each.end(), "response");
      answer.resume();
      assert.equal(answer.statusCode, 503); // There is no backend.
    }
  }
  await refused;
});

/** A chain in which each certificate names the next one as its issuer, none of which was signed. */
function junkChain(): { readonly cert: string; readonly key: string } {
  const { publicKey, privateKey } = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "der" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const chain = Array.from({ length: chainLength }, (_, n) =>
    junkCertificate(n, n === 0 ? publicKey : longKey()),
  );
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
