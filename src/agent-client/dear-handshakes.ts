/**
 * Dialled agents whose handshakes are too long. Their bytes go from the kernel to OpenSSL, so that nothing is known of a
 * handshake before it is over: an agent that has shown a long chain is left alone for a while. Those of calling agents
 * are ended in time (handshake-limit.ts).
 */
import { forgetOldest } from "../common/forget-oldest.ts";
import { longestHandshake } from "./handshake-limit.ts";

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
