import { WebSocket } from "ws";

/** Maximum messages of an unjoined agent: its key, and the beginning of TLS if it calls another agent. */
const maxUnasked = 8;

/**
 * An agent's connection. When its client leaves it is closed by a frame, which the agent distinguishes from a cut;
 * `createWebSocketStream` would terminate it without one when destroyed.
 */
export class AgentSocket extends WebSocket {
  #hasClient = false;
  #isJoined = false;
  #unasked = 0;
  /** The last unanswered ping. */
  #ping: Buffer | undefined;
  #isAnswering = false;

  /** Marks it as in use. */
  use(): void {
    this.#hasClient = true;
    this.join();
  }

  /** Passes on messages from now on. */
  join(): void {
    this.#isJoined = true;
  }

  /** Takes a message. Unrequested ones are buffered, which costs more than their bytes, so their number is bounded. */
  noteMessage(): void {
    if (!this.#isJoined && ++this.#unasked > maxUnasked) {
      this.cut();
    }
  }

  /**
   * Answers the last ping once the previous answer has been sent: an agent may ping without reading (RFC 6455, 5.5.3).
   */
  answer(ping: Buffer): void {
    this.#ping = ping;
    if (!this.#isAnswering) {
      this.#answerLast();
    }
  }

  #answerLast(): void {
    const ping = this.#ping;
    this.#ping = undefined;
    this.#isAnswering = ping !== undefined;
    if (ping !== undefined) {
      this.pong(ping, false, () => this.#answerLast());
    }
  }

  override terminate(): void {
    if (this.#hasClient) {
      this.removeAllListeners("message"); // The stream would pause for them, and the agent's answer would not be read.
      this.close();
      this.resume();
    } else {
      super.terminate();
    }
  }

  /** Terminates it, as its agent is silent. */
  cut(): void {
    super.terminate();
  }
}
