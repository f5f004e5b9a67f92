import { WebSocket } from "ws";

import { Allowance } from "../../../common/allowance.ts";
import { Turns } from "../../../common/turns.ts";

/** Maximum messages of an unjoined agent: its key, and the beginning of TLS if it calls another agent. */
const maxUnasked = 8;
/** Messages after which a connection is not read until its next turn: an honest agent's have kilobytes each. */
const messagesOfTurn = 64;
/** Connections that are read on in a turn of the event loop; those with few messages are read at all times. */
const turns = new Turns(4);
/** The largest burst of pings; agents send one in 20 s, and one more is granted in each second. */
const mostPings = 20;
const pingRefillMs = 1_000;

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
  readonly #pings = new Allowance(mostPings, pingRefillMs);
  #messages = 0;
  #isResting = false;
  /** Whether its stream wants more, while it rests. */
  #isWanted = true;

  /** Marks it as in use. */
  use(): void {
    this.#hasClient = true;
    this.join();
  }

  /** Passes on messages from now on. */
  join(): void {
    this.#isJoined = true;
  }

  /**
   * Takes a message. Unrequested ones are buffered, which costs more than their bytes, so their number is bounded. Of
   * others each costs microseconds, however small, so that a crowd of them waits for its turn.
   */
  noteMessage(): void {
    if (!this.#isJoined && ++this.#unasked > maxUnasked) {
      this.cut();
    }
    this.#messages += 1;
    if (this.#messages === 1) {
      setImmediate(() => {
        this.#messages = 0;
      });
    }
    if (this.#messages > messagesOfTurn && !this.#isResting) {
      void this.#rest();
    }
  }

  async #rest(): Promise<void> {
    this.#isWanted = !this.isPaused;
    super.pause();
    this.#isResting = true;
    await turns.next();
    this.#isResting = false;
    if (this.#isWanted) {
      super.resume();
    }
  }

  override pause(): void {
    this.#isWanted = false;
    super.pause();
  }

  override resume(): void {
    this.#isWanted = true;
    if (!this.#isResting) {
      super.resume();
    }
  }

  /** Counts a ping or pong; too many cut the connection. */
  notePing(): void {
    if (!this.#pings.take()) {
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
