/** Bounds on the listening sockets of published ports: each takes a descriptor of the process that also serves the API. */
import { unavailable } from "../../common/errors.ts";

/** One container's share, so that the others' starts do not fail because of it: wide ranges of ports fit in. */
const shareOfContainer = 7 / 8;
/** Share of all containers that were made through Docker sockets inside containers. */
const shareOfSockets = 1 / 4;
/** Share of those that were made through the socket of one container. */
const shareOfCreator = 1 / 8;

/** Listening sockets that are counted together. */
interface Share {
  readonly key: string;
  readonly most: number;
  /** Continues the message "too many ports are published". */
  readonly by: string;
}

/** One container's listening sockets. */
export interface ContainerListeners {
  /** Refuses a further port where there is no room for it. @throws unavailable */
  requireRoom(): void;
  /** Counts a socket that listens. @returns stops counting it; called once */
  add(): () => void;
}

/** Shares a number of listening sockets between containers. */
export class ListenerRoom {
  readonly #most: number;
  readonly #counts = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  /** @param creator ID of the container through whose Docker socket it was made; empty: none */
  of(containerId: string, creator: string): ContainerListeners {
    const shares = this.#sharesOf(containerId, creator);
    const count = (by: 1 | -1): void => {
      for (const { key } of shares) {
        this.#counts.set(key, this.#of(key) + by);
        if (this.#of(key) === 0) {
          this.#counts.delete(key);
        }
      }
    };
    return {
      requireRoom: () => {
        for (const { key, most, by } of shares) {
          if (this.#of(key) >= most) {
            throw unavailable(`too many ports are published${by}: ${this.#of(key)} sockets listen`);
          }
        }
      },
      add: () => {
        count(1);
        return () => count(-1);
      },
    };
  }

  #sharesOf(containerId: string, creator: string): readonly Share[] {
    const shareOf = (key: string, share: number, by: string): Share => {
      return { key, most: Math.floor(this.#most * share), by };
    };
    const shares = [shareOf("", 1, ""), shareOf(`of ${containerId}`, shareOfContainer, " by one container")];
    return creator === ""
      ? shares
      : [
          ...shares,
          shareOf("sockets", shareOfSockets, " through Docker sockets of containers"),
          shareOf(`by ${creator}`, shareOfCreator, " through the Docker socket of one container"),
        ];
  }

  #of(key: string): number {
    return this.#counts.get(key) ?? 0;
  }
}
