/** Part of the answer to a relay's nonce, as agents make it. */
import { createHmac } from "node:crypto";

/** The part that shows a token. @param token `<generation>.<secret>` @param signed message that the key signs */
export function shownToken(token: string, signed: Buffer, certificate: Buffer) {
  const [start = "", secret = ""] = token.split(".");
  const mac = createHmac("sha256", secret).update(signed).update(certificate).digest("base64");
  return { start, mac };
}
