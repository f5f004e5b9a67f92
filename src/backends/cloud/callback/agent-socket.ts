import type { Duplex, Readable } from "node:stream";

import { createWebSocketStream } from "ws";

import { BoundedWebSocket } from "../../../common/bounded-web-socket.ts";
import { packWaiting } from "../../../common/pack-waiting.ts";
import { Turns } from "../../../common/turns.ts";

/** Maximum messages of an unjoined agent: its key, and the beginning of TLS if it calls another agent. */
const maxUnasked = 8;
/** Messages after which a connection is not read until its next turn: an honest agent's have kilobytes each. */
const messagesOfTurn = 64;
/**
 * Bytes of a connection that may wait for its client, and for its agent: a hostile one reads nothing, on thousands of
 * connections, and what has no room waits with the client.
 */
const [readableHighWaterMark, writableHighWaterMark] = [256 * 1024, 64 * 1024];
/** Bytes of an unjoined agent that are looked at together: some hundred of the smallest messages. */
const unaskedBytes = 512;
/** Connections that are read on in a turn of the event loop; those with few messages are read at all times. */
const turns = new Turns(4);

/**
 * An agent's connection. When its client leaves it is closed by a frame, which the agent distinguishes from a cut;
 * `createWebSocketStream` would terminate it without one when destroyed.
 */
export class AgentSocket extends BoundedWebSocket {
  #hasClient = false;
  #isJoined = false;
  #unasked = 0;
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
   * Has what its connection reads looked at in pieces until it is joined: nothing is parsed of what follows the piece for
   * which it is cut, while one read has ten thousand messages.
   *
   * @param connection of which nothing was read yet
   */
  lookInPieces(connection: Readable): void {
    const push = connection.push.bind(connection);
    const pushPieces = (chunk: Buffer | null): boolean => {
      let rest = chunk;
      while (rest !== null && rest.length > unaskedBytes && !this.#isJoined && !connection.destroyed) {
        push(rest.subarray(0, unaskedBytes));
        rest = rest.subarray(unaskedBytes);
      }
      return connection.destroyed ? false : push(rest);
    };
    Object.assign(connection, { push: pushPieces });
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

  override terminate(): void {
    if (this.#hasClient) {
      this.removeAllListeners("message"); // The stream would pause for them, and the agent's answer would not be read.
      this.close();
      this.resume();
    } else {
      super.terminate();
    }
  }
}

/** The bytes of a connection's messages. */
export function streamOf(webSocket: AgentSocket): Duplex {
  const stream = createWebSocketStream(webSocket, { readableHighWaterMark, writableHighWaterMark });
  packWaiting(stream);
  return stream.on("error", () => {}); // "close" follows.
}
