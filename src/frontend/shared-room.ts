/**
 * Limits on connections that others than the API's clients open: at published ports, and at Docker sockets inside
 * containers. They take descriptors, memory and time of the process that also serves the API.
 */
import { openFilesLimit } from "../common/open-files.ts";
import { usualLimits } from "./admission.ts";

/** Descriptors of a connection: its own, and that to the container or the server. */
const perConnection = 2;
/** Upper bound of connections, which bounds their memory: some 50 KB each, and 150 KB through an agent's tunnel. */
const mostConnections = 4_096;

/** Descriptors that are not reserved for the API's clients. */
export function otherDescriptors(): number {
  return openFilesLimit() - usualLimits().descriptors;
}

/** Default maximum of connections with a share of {@link otherDescriptors}. */
export function usualRoom(share: number): number {
  return Math.min(mostConnections, Math.floor((otherDescriptors() * share) / perConnection));
}

/** One user's share of the room. */
export interface RoomShare {
  /**
   * Takes a slot until the result is disposed. If none is free, the user with the most slots loses its newest.
   *
   * @param close ends the slot's user; called if it loses the slot
   * @returns undefined if this user has the most
   */
  enter(close: () => void): Disposable | undefined;
}

/** Shares a number of slots between users, such as published ports. */
export class SharedRoom {
  readonly #most: number;
  readonly #users = new Set<Set<() => void>>();
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Adds a user, which is forgotten while it has no slots. */
  share(): RoomShare {
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
            this.#users.delete(places);
          }
        };
        places.add(give);
        this.#users.add(places);
        this.#taken += 1;
        return { [Symbol.dispose]: leave };
      },
    };
  }

  /** Ends the newest slot of the user with the most. @returns false if that is this one */
  #makeWayFor(places: Set<() => void>): boolean {
    let largest = places;
    for (const other of this.#users) {
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
