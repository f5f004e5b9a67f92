/** First requests of calls, as long as their agents have not taken them: one that is hostile never does. */
import { WeightedMap } from "../common/weighted-map.ts";

/** Most bytes of all long ones of a thread. */
const mostBytes = 64 * 1024 * 1024;

/** Others are not counted; that of an exec has the container's whole environment. */
const shortBytes = 64 * 1024;

/** The long requests of a thread: of too many the oldest give way, since honest agents take theirs once they are connected. */
export class LongRequests {
  readonly #bytes = new WeightedMap<() => void>(mostBytes, (giveWay) => giveWay());

  /**
   * Counts a request.
   *
   * @param giveWay ends its call
   * @returns to be called once it is taken, or its call is over; calling again is harmless
   */
  add(bytes: number, giveWay: () => void): () => void {
    if (bytes > shortBytes) {
      this.#bytes.set(giveWay, bytes);
    }
    return () => this.#bytes.delete(giveWay);
  }
}
