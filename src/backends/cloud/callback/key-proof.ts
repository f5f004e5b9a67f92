/** The first exchange on an agent's connection: it proves that it has its certificate's key, and shows its start's token. */
import { createHash, randomBytes, verify, X509Certificate } from "node:crypto";

import type { WebSocket } from "ws";
import * as v from "valibot";

import { mustRead, object } from "../../../common/documents.ts";
import { startOf } from "../authority/call-token.ts";

/** Maximum bytes of an agent's answer. */
const maxProofBytes = 8 * 1024;

const shownSchema = object({
  certificate: v.pipe(v.string(), v.base64()),
  signature: v.pipe(v.string(), v.base64()),
  /** Absent without a token. */
  token: v.optional(object({ start: v.string(), mac: v.pipe(v.string(), v.base64()) })),
});

/** Key of a caller. */
export interface ShownKey {
  /** SHA-256 of the SubjectPublicKeyInfo, hexadecimal. */
  readonly pin: string;
  /** The start whose token it has; undefined if it has none. */
  readonly start: bigint | undefined;
}

/**
 * Sends an agent a nonce and verifies its signature, and what it has made of its token.
 *
 * @param instance name of this backend's instance
 * @param callKey key of the instance's call tokens
 * @param heard called with the answer, before the connection's next message: whoever listens from then on misses none
 * @throws Error: the answer is too long, or not signed by the certificate's key
 */
export async function learnKey(
  socket: WebSocket,
  { instance, callKey }: { readonly instance: string; readonly callKey: Uint8Array },
  containerId: string,
  heard: () => void = () => {},
): Promise<ShownKey> {
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
  const { certificate, signature, token } = mustRead(shownSchema, JSON.parse(shown.toString()));
  const der = Buffer.from(certificate, "base64");
  const { publicKey } = new X509Certificate(der);
  const signed = Buffer.from(`sockerless callback ${instance} ${containerId} ${nonce.toString("hex")}`);
  const isSigned =
    publicKey.asymmetricKeyType === "ec" &&
    verify("sha256", signed, publicKey, Buffer.from(signature, "base64"));
  if (!isSigned) {
    throw new Error("it does not have the key of its certificate");
  }
  const pin = createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest("hex");
  const made = token && { start: token.start, mac: Buffer.from(token.mac, "base64") };
  return { pin, start: made && startOf(callKey, containerId, made, Buffer.concat([signed, der])) };
}
