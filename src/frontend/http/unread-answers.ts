/** Bounds the memory of long answers that their clients do not read. */
import type { ServerResponse } from "node:http";

/** Answers that are not yet wholly sent; the oldest is cut where all together are too long. */
export class UnreadAnswers {
  readonly #most: number;
  readonly #lengths = new Map<ServerResponse, number>();
  #total = 0;

  /** @param most bytes of all answers; a single one may be longer */
  constructor(most: number) {
    this.#most = most;
  }

  /** Counts an answer of so many bytes until it is sent or its client has left; others may be cut for it. */
  add(response: ServerResponse, length: number): void {
    if (!response.destroyed) {
      const held = this.hold(response, length);
      response.once("close", () => held[Symbol.dispose]());
    }
  }

  /** Counts so many bytes of an answer until they are disposed of; others may be cut for it. */
  hold(response: ServerResponse, length: number): Disposable {
    this.#sent(response);
    for (const oldest of this.#lengths.keys()) {
      if (this.#total + length <= this.#most) {
        break;
      }
      this.#sent(oldest);
      oldest.destroy();
    }
    this.#lengths.set(response, length);
    this.#total += length;
    return { [Symbol.dispose]: () => this.#sent(response) };
  }

  #sent(response: ServerResponse): void {
    this.#total -= this.#lengths.get(response) ?? 0;
    this.#lengths.delete(response);
  }
}
