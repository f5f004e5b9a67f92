/**
 * Room for the connections and flows of all published ports. Anybody can open them, and each takes descriptors, memory
 * and time of the process that also serves the API.
 */
import { openFilesLimit } from "../../common/open-files.ts";
import { usualLimits } from "../admission.ts";

/** Descriptors of a connection: its own, and that to the container. */
const perConnection = 2;
/** Upper bound, which bounds the memory of connections, some 50 KB each. */
const mostConnections = 4_096;

/** Default number of connections and flows: half of the descriptors that are not for clients of the API. */
export function usualRoom(): number {
  const others = openFilesLimit() - usualLimits().descriptors;
  return Math.min(mostConnections, Math.floor(others / 2 / perConnection));
}

/** One port's part of the room. */
export interface PortRoom {
  /**
   * Takes a place until the disposal of the result. If there is none, the port with the most gives way: its newest.
   *
   * @param close ends what has the place; called if it has to give way
   * @returns undefined if it is this port that has the most
   */
  enter(close: () => void): Disposable | undefined;
}

/** Shares a number of places between ports. */
export class PublishedRoom {
  readonly #most: number;
  readonly #ports = new Set<Set<() => void>>();
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Adds a port. It counts as long as it has places. */
  forPort(): PortRoom {
    const places = new Set<() => void>();
    return {
      enter: (close) => {
        if (this.#taken >= this.#most && !this.#makeWayFor(places)) {
          return undefined;
        }
        const give = (): void => close();
        const leave = (): void => {
          if (places.delete(give)) {
            this.#taken -= 1;
          }
          if (places.size === 0) {
            this.#ports.delete(places);
          }
        };
        places.add(give);
        this.#ports.add(places);
        this.#taken += 1;
        return { [Symbol.dispose]: leave };
      },
    };
  }

  /** Ends the newest of the port with the most. False: that is this port. */
  #makeWayFor(places: Set<() => void>): boolean {
    let largest = places;
    for (const other of this.#ports) {
      largest = other.size > largest.size ? other : largest;
    }
    if (largest.size <= places.size + 1) {
      return false;
    }
    const newest = [...largest].at(-1);
    if (newest !== undefined) {
      largest.delete(newest);
      this.#taken -= 1;
      newest();
    }
    return true;
  }
}
