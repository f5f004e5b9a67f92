import { WebSocket } from "ws";

/** Messages of one that is not joined with anybody: its key, and how TLS begins where it calls another agent. */
const maxUnasked = 8;

/**
 * An agent's connection. It is closed when its client leaves, by a frame that the agent tells from a cut, however the stream
 * over it ends: `createWebSocketStream` terminates what its user destroys.
 */
export class AgentSocket extends WebSocket {
  #hasClient = false;
  #isJoined = false;
  #unasked = 0;
  /** The last ping that is not answered. */
  #ping: Buffer | undefined;
  #isAnswering = false;

  /** Somebody uses it from now on. */
  use(): void {
    this.#hasClient = true;
    this.join();
  }

  /** Lets what comes be passed on from now on. */
  join(): void {
    this.#isJoined = true;
  }

  /** Takes note of a message. Those that nobody has asked for are kept, at more than their bytes, and so are few. */
  noteMessage(): void {
    if (!this.#isJoined && ++this.#unasked > maxUnasked) {
      this.cut();
    }
  }

  /** Answers the last ping once the answer before has left: an agent may ping without reading (RFC 6455, 5.5.3). */
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

  /** Drops it, as its agent says nothing. */
  cut(): void {
    super.terminate();
  }
}
