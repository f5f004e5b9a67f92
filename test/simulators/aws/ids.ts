/** Names as AWS makes them. */
import { randomBytes } from "node:crypto";

/** `sg-` and seventeen hexadecimal digits. */
export function resourceId(prefix: string): string {
  return `${prefix}-${randomBytes(9).toString("hex").slice(0, 17)}`;
}

const lowercase = "abcdefghijklmnopqrstuvwxyz0123456789";

/** `srv-` and sixteen lowercase letters and digits, as Cloud Map has them. */
export function lowercaseId(prefix: string): string {
  return `${prefix}-${[...randomBytes(16)].map((byte) => lowercase[byte % lowercase.length]).join("")}`;
}
