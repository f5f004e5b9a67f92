/**
 * Agents whose handshakes are too long. Node verifies whatever chain of certificates comes, at up to half a second, and
 * tells nothing of it before: an agent that has shown such a chain is left alone for a while.
 */
import { forgetOldest } from "../common/forget-oldest.ts";

/** Bytes; an agent of ours sends some 2,000, with a certificate of P-256. */
const longestHandshake = 8 * 1024;
const dearForMs = 60_000;
const maxRemembered = 10_000;

/** The agents of one process, by pin. */
export class DearHandshakes {
  /** Times by `performance.now()` until which they count. */
  readonly #until = new Map<string, number>();

  /** Notes a handshake that has succeeded or failed. @param bytes received until then */
  note(pin: string, bytes: number): void {
    if (bytes > longestHandshake) {
      this.#until.delete(pin);
      this.#until.set(pin, performance.now() + dearForMs);
      forgetOldest(this.#until, maxRemembered);
    }
  }

  has(pin: string): boolean {
    return (this.#until.get(pin) ?? 0) > performance.now();
  }
}
