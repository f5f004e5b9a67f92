/**
 * Attachments that waits depend on. Clients take a container's exit code for the whole truth once they have it, and
 * ignore what befalls its output afterwards: a wait reports a success only once the attachments to its container have
 * ended, or an agent has their connections, and breaks with the loss of one. The forwarder does the same for the waits
 * that it holds ({@link HandOver.guard}).
 */
import type { Duplex } from "node:stream";

import type { Clock } from "../../common/clock.ts";
import type { GuardedRequest, HandOver } from "./hand-over.ts";

/** How long a wait depends on an attachment: longer than the silence after which a stream counts as cut. */
const limitMs = 45_000;
/** How often a client is looked at that may have stopped reading. */
const lookMs = 250;

/** An attachment, as its client asks for it. */
export interface AskedAttachment {
  /** The container's full ID. */
  readonly id: string;
  readonly client: Duplex;
  /** As of {@link HandOver.guard}. */
  readonly farewell?: Buffer;
}

/** An attachment until its stream has ended, or an agent has its client's connection; it is disposed then. */
export type OpenAttachment = GuardedRequest;

interface Served {
  readonly asked: AskedAttachment;
  readonly over: Promise<void>;
  isLost: boolean;
}

/** Attachments of one frontend. */
export class OpenAttachments {
  readonly #served = new Set<Served>();
  readonly #handOver: HandOver | undefined;
  readonly #clock: Pick<Clock, "sleep">;

  constructor(handOver: HandOver | undefined, clock: Pick<Clock, "sleep">) {
    this.#handOver = handOver;
    this.#clock = clock;
  }

  /** Registers an attachment, on which waits depend once it is {@link OpenAttachment.served}. */
  async begin(asked: AskedAttachment): Promise<OpenAttachment> {
    const { id, client, farewell } = asked;
    const guard = { container: id, attached: true, ...(farewell !== undefined && { farewell }) };
    const guarded = await this.#handOver?.guard(client, guard);
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const attachment: Served = { asked, over, isLost: false };
    return {
      served: () => {
        this.#served.add(attachment);
        guarded?.served();
      },
      begun: () => guarded?.begun(),
      lost: () => {
        attachment.isLost = true;
        guarded?.lost();
      },
      [Symbol.dispose]: () => {
        this.#served.delete(attachment);
        resolve();
        guarded?.[Symbol.dispose]();
      },
    };
  }

  /**
   * Waits, once a container has ended, for its attachments. One whose client does not read is not waited for.
   *
   * @param container its full ID
   * @returns whether one was lost
   */
  async losesOutput(container: string, signal: AbortSignal): Promise<boolean> {
    const served = [...this.#served].filter(({ asked: { id } }) => id === container);
    await Promise.all(served.map((each) => this.#ended(each, signal)));
    return served.some(({ isLost }) => isLost);
  }

  async #ended(attachment: Served, signal: AbortSignal): Promise<void> {
    for (let waitedMs = 0; waitedMs < limitMs && this.#served.has(attachment); waitedMs += lookMs) {
      const looked = new AbortController();
      const look = this.#clock.sleep(lookMs, AbortSignal.any([signal, looked.signal]));
      await Promise.race([attachment.over, look]).finally(() => looked.abort());
      if (attachment.asked.client.writableLength > 0) {
        return;
      }
    }
  }
}
