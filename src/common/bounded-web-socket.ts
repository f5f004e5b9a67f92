import { WebSocket } from "ws";

import { Allowance } from "./allowance.ts";

/** The largest burst of pings and pongs; peers ping once in 20 s or so, and one more is granted in each second. */
const mostPings = 20;
const pingRefillMs = 1_000;

/** A WebSocket of a server without `autoPong`, whose peer may send pings and pongs without a pause and read nothing. */
export class BoundedWebSocket extends WebSocket {
  /** The last unanswered ping. */
  #ping: Buffer | undefined;
  #isAnswering = false;
  readonly #pings = new Allowance(mostPings, pingRefillMs);

  /** Counts a ping or pong; too many cut the connection. */
  notePing(): void {
    if (!this.#pings.take()) {
      this.cut();
    }
  }

  /** Answers the last ping once the previous answer has been sent: a peer may ping without reading (RFC 6455, 5.5.3). */
  answer(ping: Buffer): void {
    this.#ping = ping;
    if (!this.#isAnswering) {
      this.#answerLast();
    }
  }

  /** Ends the connection without a closing handshake. */
  cut(): void {
    super.terminate();
  }

  #answerLast(): void {
    const ping = this.#ping;
    this.#ping = undefined;
    this.#isAnswering = ping !== undefined;
    if (ping !== undefined) {
      this.pong(ping, false, () => this.#answerLast());
    }
  }
}
