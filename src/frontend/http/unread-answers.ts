/** Bounds the memory of long answers that their clients do not read. */
import type { ServerResponse } from "node:http";

/** Answers under way, of which the oldest is cut where all together are too long. */
export class UnreadAnswers {
  readonly #most: number;
  readonly #lengths = new Map<ServerResponse, number>();
  #total = 0;

  /** @param most characters of all answers; a single one may be longer */
  constructor(most: number) {
    this.#most = most;
  }

  /** Counts an answer of so many characters until it is sent; others may be cut for it. */
  add(response: ServerResponse, length: number): void {
    for (const oldest of this.#lengths.keys()) {
      if (this.#total + length <= this.#most) {
        break;
      }
      this.#sent(oldest);
      oldest.destroy();
    }
    this.#lengths.set(response, length);
    this.#total += length;
    response.once("close", () => this.#sent(response));
  }

  #sent(response: ServerResponse): void {
    this.#total -= this.#lengths.get(response) ?? 0;
    this.#lengths.delete(response);
  }
}
