/**
 * Limits on the connections and flows of all published ports: anybody can open them, and each takes descriptors, memory
 * and time of the process that also serves the API.
 */
import { openFilesLimit } from "../../common/open-files.ts";
import { usualLimits } from "../admission.ts";

/** Descriptors of a connection: its own, and that to the container. */
const perConnection = 2;
/** Upper bound of connections, which bounds their memory: some 50 KB each. */
const mostConnections = 4_096;

/** Default maximum of connections and flows: half of the descriptors that are not reserved for the API's clients. */
export function usualRoom(): number {
  const others = openFilesLimit() - usualLimits().descriptors;
  return Math.min(mostConnections, Math.floor(others / 2 / perConnection));
}

/** One port's use of the shared limit. */
export interface PortRoom {
  /**
   * Takes a slot until the result is disposed. If none is free, the port with the most slots loses its newest.
   *
   * @param close ends the slot's user; called if it loses the slot
   * @returns undefined if this port has the most
   */
  enter(close: () => void): Disposable | undefined;
}

/** Shares a number of slots between ports. */
export class PublishedRoom {
  readonly #most: number;
  readonly #ports = new Set<Set<() => void>>();
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Adds a port, which is forgotten while it has no slots. */
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

  /** Ends the newest user of the port with the most slots. @returns false if that is this port */
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
