/** Identifiers in Docker's format. */
import { randomBytes, randomInt } from "node:crypto";

import { adjectives, surnames } from "./name-words.ts";

const fullId = /^[0-9a-f]{64}$/;
const onlyDigits = /^[0-9]{12}/;

/**
 * A new random ID: 64 lower-case hexadecimal digits. Its short form is a container's default host name and never all
 * decimal digits, as some programs would read that as a number.
 */
export function newId(): string {
  for (;;) {
    const id = randomBytes(32).toString("hex");
    if (!onlyDigits.test(id)) {
      return id;
    }
  }
}

/** The twelve digits that Docker shows of an ID, which may have an algorithm prefix (`sha256:`). */
export function shortId(id: string): string {
  const colon = id.indexOf(":");
  return id.slice(colon + 1, colon + 13);
}

/** True for a complete ID (64 lower-case hexadecimal digits); never true for a name or an abbreviated ID. */
export function isFullId(value: string): boolean {
  return fullId.test(value);
}

/**
 * A generated container name: `adjective_surname`.
 *
 * @param attempt how many names were already in use; from 1 on a digit is appended, as in Docker
 */
export function randomName(attempt = 0): string {
  const name = `${pick(adjectives)}_${pick(surnames)}`;
  return attempt === 0 ? name : `${name}${randomInt(10)}`;
}

function pick(words: readonly string[]): string {
  return words[randomInt(words.length)] ?? "";
}
