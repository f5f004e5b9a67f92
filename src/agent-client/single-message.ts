/** Takes the only message of a unary call's answer out of the chunks of an HTTP/2 stream. */
import { Code, ConnectError } from "@connectrpc/connect";

import { FillingBytes } from "../common/filling-bytes.ts";
import { agentPeer } from "./address.ts";
import { announcedLength, prefixLength } from "./grpc-request.ts";

/** Agents are not trusted: what it holds and what it does are bounded by the bytes that came, however they are cut. */
export class SingleMessage {
  readonly #maxBytes: number;
  readonly #peer: string;
  readonly #prefix = new FillingBytes(prefixLength);
  /** Undefined: the prefix is not complete. In memory of its own: fields of the message are parts of it. */
  #message: FillingBytes | undefined;

  /**
   * @param maxBytes a message above this is refused
   * @param peer who sends it, for error messages
   */
  constructor(maxBytes: number, peer: string = agentPeer) {
    this.#maxBytes = maxBytes;
    this.#peer = peer;
  }

  /**
   * Takes the next chunk.
   *
   * @throws ConnectError `ResourceExhausted`: the message is too large; `Unimplemented`: something follows it
   */
  push(chunk: Uint8Array): void {
    let position = 0;
    if (this.#message === undefined) {
      position = this.#prefix.take(chunk, position);
      if (!this.#prefix.isFull) {
        return;
      }
      this.#message = new FillingBytes(this.#checkedLength());
    }
    if (this.#message.take(chunk, position) < chunk.length) {
      throw this.#notOneMessage();
    }
  }

  /**
   * The message, once the stream has ended.
   *
   * @throws ConnectError `Unimplemented`: there is no whole one; `DataLoss`: it is compressed
   */
  end(): Uint8Array {
    if (this.#message?.isFull !== true) {
      throw this.#notOneMessage();
    }
    if (this.#prefix.bytes[0] !== 0) {
      throw new ConnectError(`${this.#peer} sent a compressed message that nobody asked for`, Code.DataLoss);
    }
    return this.#message.bytes;
  }

  #checkedLength(): number {
    const length = announcedLength(this.#prefix.bytes);
    if (length > this.#maxBytes) {
      const message = `${this.#peer}'s answer is larger than ${this.#maxBytes} bytes`;
      throw new ConnectError(message, Code.ResourceExhausted);
    }
    return length;
  }

  #notOneMessage(): ConnectError {
    return new ConnectError(`${this.#peer}'s answer is not one message`, Code.Unimplemented);
  }
}
