/** Bounds the memory of long answers that their clients do not read. */
import type { ServerResponse } from "node:http";

import { WeightedMap } from "../../common/weighted-map.ts";

/** Answers that are not yet wholly sent; the oldest is cut where all together are too long. */
export class UnreadAnswers {
  readonly #most: number;
  readonly #lengths: WeightedMap<ServerResponse>;

  /** @param most bytes of all answers; a single one may be longer */
  constructor(most: number) {
    this.#most = most;
    this.#lengths = new WeightedMap(most, (oldest) => oldest.destroy());
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
    this.#lengths.delete(response); // It is the youngest now.
    this.#lengths.set(response, Math.min(length, this.#most));
    return { [Symbol.dispose]: () => this.#lengths.delete(response) };
  }
}
