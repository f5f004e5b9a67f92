import { randomBytes } from "node:crypto";

/** A serial number for a certificate: 127 random bits in hexadecimal, positive as X.509 requires. */
export function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x01;
  return bytes.toString("hex");
}
