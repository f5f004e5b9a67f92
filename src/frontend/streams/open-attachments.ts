/**
 * Attachments whose streams are open. Clients take a container's exit code for the whole truth once they have it, and
 * ignore what befalls its output afterwards: a wait reports no success while such a stream may still be lost, as where
 * a network drops what it carries and nobody notices for half a minute.
 */
import type { Duplex } from "node:stream";

import type { Clock } from "../../common/clock.ts";
import { isNamed } from "./pending-starts.ts";

/** Longer than the silence after which a stream counts as cut. */
const limitMs = 45_000;
/** How often a client is looked at that may have stopped reading. */
const lookMs = 250;

interface Open {
  readonly id: string;
  readonly name: string;
  readonly client: Duplex;
  readonly over: Promise<void>;
  isLost: boolean;
}

/** An open attachment; disposed once its client has all of its output, or has been told of the loss. */
export interface OpenAttachment extends Disposable {
  /** Its stream was cut. */
  lost(): void;
}

/** Open attachments of one frontend. */
export class OpenAttachments {
  readonly #open = new Set<Open>();
  readonly #clock: Pick<Clock, "sleep">;

  constructor(clock: Pick<Clock, "sleep">) {
    this.#clock = clock;
  }

  /** Registers one. @param name the container's name in its request */
  begin(id: string, name: string, client: Duplex): OpenAttachment {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const open: Open = { id, name, client, over, isLost: false };
    this.#open.add(open);
    return {
      lost: () => {
        open.isLost = true;
      },
      [Symbol.dispose]: () => {
        this.#open.delete(open);
        resolve();
      },
    };
  }

  /**
   * Waits, once a container has ended, for the ends of its attachments. One whose client does not read is not waited for.
   *
   * @param container as the client names it that waits
   * @returns whether one was lost
   */
  async losesOutput(container: string, signal: AbortSignal): Promise<boolean> {
    const open = [...this.#open].filter(({ id, name }) => isNamed(container, id, name));
    await Promise.all(open.map((each) => this.#ended(each, signal)));
    return open.some(({ isLost }) => isLost);
  }

  async #ended(open: Open, signal: AbortSignal): Promise<void> {
    for (let waitedMs = 0; waitedMs < limitMs && this.#open.has(open); waitedMs += lookMs) {
      const looked = new AbortController();
      const look = this.#clock.sleep(lookMs, AbortSignal.any([signal, looked.signal]));
      await Promise.race([open.over, look]).finally(() => looked.abort());
      if (open.client.writableLength > 0) {
        return;
      }
    }
  }
}
