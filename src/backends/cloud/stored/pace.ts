/** Shares the event loop between the reading of stored logs and everything else. */
import { StepPace, Steps } from "../../concurrency/step-pace.ts";

/** Steps of all readers, in bytes. */
const steps = new Steps(64 * 1024);
/** Cost of an item besides its data, in bytes. */
const itemCost = 256;

/** The pace of one request, over all its passes. */
export class Pace extends StepPace {
  /** @param signal ends the reading with its reason */
  constructor(signal: AbortSignal) {
    super(steps, signal);
  }

  /** Waits for a turn before more than a step of data is handled. @throws the signal's reason */
  handle({ length }: Uint8Array): Promise<void> {
    return this.spend(length + itemCost);
  }

  /** The same items at this pace. @throws the signal's reason */
  async *each<T extends { readonly data: Uint8Array }>(items: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const item of items) {
      await this.handle(item.data);
      yield item;
    }
  }
}
