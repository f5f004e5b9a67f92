import { WebSocket } from "ws";

import { pingAllowance } from "./allowance.ts";

/** A WebSocket of a server without `autoPong`, whose peer may send pings and pongs without a pause and read nothing. */
export class BoundedWebSocket extends WebSocket {
  /** The last unanswered ping. */
  #ping: Buffer | undefined;
  #isAnswering = false;
  readonly #pings = pingAllowance();

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
