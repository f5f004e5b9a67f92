/**
 * Dialled agents whose handshakes are too long. Their bytes go from the kernel to OpenSSL, so that nothing is known of a
 * handshake before it is over: an agent that has shown a long chain is left alone, each time for longer. Those of calling
 * agents are ended in time (handshake-limit.ts).
 */
import { type Clock, systemClock } from "../common/clock.ts";
import { remember } from "../common/forget-oldest.ts";
import { pauseAfter } from "../common/pauses.ts";

/** Bytes received in a handshake, those that may follow it at once included. */
export const longestDialled = 8 * 1024;
const pauses = { firstMs: 60_000, longestMs: 3_600_000 };
const maxRemembered = 10_000;

/** The agents of one process, by pin. */
export class DearHandshakes {
  /** Long handshakes so far, and the clock's time from which the agent is dialled again. */
  readonly #agents = new Map<string, { readonly count: number; readonly untilMs: number }>();

  readonly #clock: Clock;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** Notes a handshake that has succeeded or failed. @param bytes received until then */
  note(pin: string, bytes: number): void {
    if (bytes > longestDialled) {
      const count = (this.#agents.get(pin)?.count ?? 0) + 1;
      const untilMs = this.#clock.nowMs() + pauseAfter(count, pauses);
      remember(this.#agents, pin, { count, untilMs }, maxRemembered);
    }
  }

  /** True while the agent is not to be dialled. */
  has(pin: string): boolean {
    return (this.#agents.get(pin)?.untilMs ?? 0) > this.#clock.nowMs();
  }
}
