/** Shares the event loop between the reading of stored logs and everything else. */
import { Turns } from "../../../common/turns.ts";

/** Bytes of a step: a few milliseconds of work. */
const stepBytes = 64 * 1024;
/** Cost of an item besides its data, in bytes. */
const itemCost = 256;

/** Steps of all readers together. */
const steps = new Turns(1);

/** The pace of one request, over all its passes. */
export class Pace {
  readonly #signal: AbortSignal;
  #left = 0;

  /** @param signal ends the reading with its reason */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** Waits for a turn before more than a step of data is handled. @throws the signal's reason */
  async spend({ length }: Uint8Array): Promise<void> {
    this.#left -= length + itemCost;
    if (this.#left < 0) {
      await steps.next();
      this.#signal.throwIfAborted();
      this.#left = stepBytes;
    }
  }

  /** The same items at this pace. @throws the signal's reason */
  async *each<T extends { readonly data: Uint8Array }>(items: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const item of items) {
      await this.spend(item.data);
      yield item;
    }
  }
}
