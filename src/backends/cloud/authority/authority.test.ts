import "reflect-metadata";

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { chmodSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { X509Certificate as Certificate } from "@peculiar/x509";

import { ManualClock } from "../../../common/manual-clock.ts";
import { createAuthority } from "./authority.ts";
import { readAuthority } from "./authority-file.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

const directory = scratchDirectory();

const file = join(directory, "made/agent-ca.pem");
const one = "1".repeat(64);
const two = "2".repeat(64);
const frontendKey = () =>
  generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ type: "spki", format: "der" });

async function authority(clock = new ManualClock(Date.now())) {
  return { clock, authority: await createAuthority(await readAuthority(file), clock) };
}

describe("an instance's authority over its agents", () => {
  it("is made once, for its owner's eyes only, and read again", async () => {
    const first = await authority();
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const second = await authority();
    assert.deepEqual(second.authority.pin, first.authority.pin);
    const inline = await createAuthority(await readAuthority(readFileSync(file, "utf8")), first.clock);
    assert.deepEqual(inline.pin, first.authority.pin);
  });

  it("is not read from a file that others can read, nor with a key that is not its certificate's", async () => {
    const { authority: made } = await authority();
    for (const mode of [0o640, 0o604, 0o610]) {
      chmodSync(file, mode);
      await assert.rejects(readAuthority(file), { kind: "invalid", message: /can be read by others/ });
    }
    chmodSync(file, 0o600);
    assert.deepEqual((await authority()).authority.pin, made.pin);
    const other = join(directory, "other.pem");
    await readAuthority(other);
    const [key = ""] = readFileSync(other, "utf8").split(/(?=-----BEGIN CERTIFICATE)/);
    const [, certificate = ""] = readFileSync(file, "utf8").split(/(?=-----BEGIN CERTIFICATE)/);
    await assert.rejects(readAuthority(key + certificate), {
      kind: "invalid",
      message: /not the certificate's/,
    });
  });

  it("gives this process a certificate that is good for one container, signed by it", async () => {
    const { authority: made } = await authority();
    const { certificateChain, key } = await made.credentialsFor(one);
    const [leaf, root] = certificateChain
      .split(/(?<=-----END CERTIFICATE-----)/)
      .filter((part) => part.trim() !== "")
      .map((pem) => new X509Certificate(pem));
    assert.ok(leaf !== undefined && root !== undefined);
    assert.equal(leaf.subjectAltName, `URI:sockerless://container/${one}`);
    assert.ok(leaf.verify(root.publicKey));
    assert.equal(leaf.ca, false);
    assert.match(key, /BEGIN PRIVATE KEY/);
    const { certificateChain: others } = await made.credentialsFor(two);
    assert.equal(new X509Certificate(others).subjectAltName, `URI:sockerless://container/${two}`);
    assert.ok(Date.parse(leaf.validTo) - Date.now() <= 10 * 60_000);
  });

  it("gives certificates that agents take whose clocks are hours behind", async () => {
    const { authority: made } = await authority();
    const { certificateChain } = await made.credentialsFor(one);
    const chain = certificateChain.split(/(?<=-----END CERTIFICATE-----)/).filter((pem) => pem.trim() !== "");
    assert.equal(chain.length, 2);
    for (const pem of chain) {
      assert.ok(Date.parse(new X509Certificate(pem).validFrom) < Date.now() - 14 * 3_600_000);
    }
  });

  it("names itself in certificates byte for byte, as agents compare it, whatever made it", async () => {
    const [key, cert] = [join(directory, "theirs-key.pem"), join(directory, "theirs.pem")];
    const made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    execFileSync("openssl", [...made, "-subj", "/CN=agent-ca", "-keyout", key, "-out", cert], {
      stdio: "ignore",
    });
    const pem = readFileSync(key, "utf8") + readFileSync(cert, "utf8");
    const theirs = await createAuthority(await readAuthority(pem), new ManualClock(Date.now()));
    const [leaf = "", root = ""] = (await theirs.credentialsFor(one)).certificateChain.split(
      /(?<=-----END CERTIFICATE-----)/,
    );
    assert.deepEqual(
      Buffer.from(new Certificate(leaf).issuerName.toArrayBuffer()),
      Buffer.from(new Certificate(root).subjectName.toArrayBuffer()),
    );
  });

  it("certifies another's key, the same certificate while it is good for a while", async () => {
    const { authority: made, clock } = await authority();
    const key = frontendKey();
    const first = await made.certify(one, key);
    assert.equal(await made.certify(one, key), first);
    assert.notEqual(await made.certify(two, key), first);
    assert.notEqual(await made.certify(one, frontendKey()), first);
    clock.advance(5 * 60_000);
    const renewed = await made.certify(one, key);
    assert.notEqual(renewed, first);
    const leaf = new X509Certificate(Buffer.from(renewed[0] ?? []));
    assert.equal(leaf.subjectAltName, `URI:sockerless://container/${one}`);
    assert.ok(leaf.publicKey.equals(createPublicKey({ key, format: "der", type: "spki" })));
  });

  it("certifies a partner's key under another name, which opens less, for an hour", async () => {
    const { authority: made, clock } = await authority();
    const key = frontendKey();
    const first = await made.certifyPartner(one, key);
    const leaf = new X509Certificate(Buffer.from(first.chain[0] ?? []));
    assert.equal(leaf.subjectAltName, `URI:sockerless://container/${one}/partner`);
    assert.ok(Date.parse(leaf.validTo) - Date.now() <= 60 * 60_000);
    assert.equal(first.renewedFromMs, clock.nowMs() + 30 * 60_000);
    assert.equal(first.goodUntilMs, clock.nowMs() + 30 * 60_000);
  });

  it("issues one certificate for agents in each turn of the event loop", async () => {
    const { authority: made } = await authority();
    const key = frontendKey();
    let issued = 0;
    const all = Array.from({ length: 20 }, (_, at) =>
      made.certifyPeer(`${at}`.padStart(64, "0"), key).then(() => (issued += 1)),
    );
    while (issued < all.length) {
      const before = issued;
      await nextTurn();
      assert.ok(issued - before <= 1, `${issued - before} in one turn`);
    }
  });

  it("certifies the key of a container on the same network under a third name", async () => {
    const { authority: made } = await authority();
    const key = frontendKey();
    const [leaf] = (await made.certifyPeer(one, key)).chain;
    const { subjectAltName } = new X509Certificate(Buffer.from(leaf ?? []));
    assert.equal(subjectAltName, `URI:sockerless://container/${one}/peer`);
  });

  it("refuses what is no key, and does not remember that", async () => {
    const { authority: made } = await authority();
    for (let attempt = 0; attempt < 2; attempt++) {
      await assert.rejects(made.certify(one, new Uint8Array([1, 2, 3])), { kind: "invalid" });
    }
  });
});
