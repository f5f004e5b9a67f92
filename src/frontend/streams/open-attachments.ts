/**
 * Attachments that waits depend on. Clients take a container's exit code for the whole truth once they have it, and
 * ignore what befalls its output afterwards: a wait reports a success only once the attachments to its container have
 * ended, or an agent has their connections, and breaks with the loss of one. The forwarder does the same for the waits
 * that it holds ({@link HandOver.guard}).
 */
import type { Duplex } from "node:stream";

import type { Clock } from "../../common/clock.ts";
import { getOrInsert } from "../../common/get-or-insert.ts";
import { onAbort } from "../../common/on-abort.ts";
import type { GuardedRequest, HandOver } from "./hand-over.ts";

/** How long a wait depends on an attachment: longer than the silence after which a stream counts as cut. */
const limitMs = 45_000;
/** How often clients are looked at that may have stopped reading. */
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

/** The attachments to one container. */
interface Attached {
  readonly served: Set<Served>;
  /** As of {@link OpenAttachments.losesOutput}: one answer for all waits, until another attachment is served. */
  losesOutput?: Promise<boolean> | undefined;
}

/** Attachments of one frontend. */
export class OpenAttachments {
  /** By container, while there are any. */
  readonly #attached = new Map<string, Attached>();
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
        const attached = getOrInsert(this.#attached, id, (): Attached => ({ served: new Set() }));
        attached.served.add(attachment);
        attached.losesOutput = undefined;
        guarded?.served();
      },
      begun: () => guarded?.begun(),
      lost: () => {
        attachment.isLost = true;
        guarded?.lost();
      },
      [Symbol.dispose]: () => {
        const attached = this.#attached.get(id);
        attached?.served.delete(attachment);
        if (attached?.served.size === 0) {
          this.#attached.delete(id);
        }
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
   * @throws the signal's reason
   */
  async losesOutput(container: string, signal: AbortSignal): Promise<boolean> {
    const attached = this.#attached.get(container);
    if (attached === undefined) {
      return false;
    }
    attached.losesOutput ??= this.#losesOutput(attached.served);
    const left = Promise.withResolvers<never>();
    using _leaving = onAbort(signal, () => left.reject(signal.reason));
    return await Promise.race([attached.losesOutput, left.promise]);
  }

  async #losesOutput(served: ReadonlySet<Served>): Promise<boolean> {
    const all = [...served];
    const over = Promise.all(all.map((each) => each.over));
    let open = all;
    for (let waitedMs = 0; waitedMs < limitMs && open.length > 0; waitedMs += lookMs) {
      const looked = new AbortController();
      const look = this.#clock.sleep(lookMs, looked.signal);
      await Promise.race([over, look]);
      looked.abort();
      open = open.filter((each) => served.has(each) && each.asked.client.writableLength === 0);
    }
    return all.some(({ isLost }) => isLost);
  }
}
