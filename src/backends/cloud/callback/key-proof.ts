/** The first exchange on an agent's connection: it proves that it has its certificate's key. */
import { createHash, randomBytes, verify, X509Certificate } from "node:crypto";

import type { WebSocket } from "ws";
import * as v from "valibot";

import { mustRead, object } from "../../../common/documents.ts";

/** Maximum bytes of an agent's answer. */
const maxProofBytes = 8 * 1024;

const shownSchema = object({
  certificate: v.pipe(v.string(), v.base64()),
  signature: v.pipe(v.string(), v.base64()),
});

/**
 * Sends an agent a nonce and verifies its signature.
 *
 * @param instance name of this backend's instance
 * @param heard called with the answer, before the connection's next message: whoever listens from then on misses none
 * @returns SHA-256 of the SubjectPublicKeyInfo, hexadecimal
 * @throws Error: the answer is too long, or not signed by the certificate's key
 */
export async function learnKey(
  socket: WebSocket,
  instance: string,
  containerId: string,
  heard: () => void = () => {},
): Promise<string> {
  const nonce = randomBytes(32);
  const answer = new Promise<Buffer>((resolve, reject) => {
    socket.once("message", (data) => {
      resolve(data as Buffer);
      heard();
    });
    socket.once("close", () => reject(new Error("it left before it showed its key")));
  });
  socket.send(nonce);
  const shown = await answer;
  if (shown.length > maxProofBytes) {
    throw new Error(`it answered ${shown.length} bytes, and ${maxProofBytes} are enough to show a key`);
  }
  const { certificate, signature } = mustRead(shownSchema, JSON.parse(shown.toString()));
  const { publicKey } = new X509Certificate(Buffer.from(certificate, "base64"));
  const signed = `sockerless callback ${instance} ${containerId} ${nonce.toString("hex")}`;
  const isSigned =
    publicKey.asymmetricKeyType === "ec" &&
    verify("sha256", Buffer.from(signed), publicKey, Buffer.from(signature, "base64"));
  if (!isSigned) {
    throw new Error("it does not have the key of its certificate");
  }
  return createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest("hex");
}
