/**
 * The token by which the agent of one start shows that it may be asked for a proof. Proofs cost a handshake each, and anyone
 * can make keys; it proves nothing else (docs/adr/0138-only-who-has-its-starts-token-is-asked-for-a-proof.md).
 */
import { createHmac, timingSafeEqual } from "node:crypto";

/** Generation in the token of a prepared task, which has its name in the place of a container's ID. */
export const preparedStart = 0n;

/** The token as the agent gets it: `<generation>.<secret>`. @param key of the instance */
export function callToken(key: Uint8Array, containerId: string, generation: bigint): string {
  return `${generation}.${secretOf(key, containerId, generation)}`;
}

/**
 * Verifies what an agent has made of its token.
 *
 * @param start the generation that it names, decimal
 * @param made HMAC by its secret
 * @param message the HMAC's message, which no other connection has
 * @returns the generation of the token; undefined if it is not one of the container's
 */
export function startOf(
  key: Uint8Array,
  containerId: string,
  { start, mac: made }: { readonly start: string; readonly mac: Uint8Array },
  message: Uint8Array,
): bigint | undefined {
  if (!/^\d{1,20}$/.test(start)) {
    return undefined;
  }
  const generation = BigInt(start);
  const expected = createHmac("sha256", secretOf(key, containerId, generation))
    .update(message)
    .digest();
  return made.length === expected.length && timingSafeEqual(made, expected) ? generation : undefined;
}

function secretOf(key: Uint8Array, containerId: string, generation: bigint): string {
  return createHmac("sha256", key).update(`${containerId} ${generation}`).digest("base64url");
}
