/** Shares the event loop between long looks at data and everything else. */
import { Turns } from "../../common/turns.ts";

/** Steps of all looks together. */
const steps = new Turns(1);

/** The pace of one look, over all its passes. */
export class StepPace {
  readonly #stepCost: number;
  readonly #signal: AbortSignal;
  #left = 0;

  /**
   * @param stepCost a few milliseconds of work
   * @param signal ends the look with its reason
   */
  constructor(stepCost: number, signal: AbortSignal) {
    this.#stepCost = stepCost;
    this.#signal = signal;
  }

  /** Waits for a turn once the cost of a step has been spent. @throws the signal's reason */
  async spend(cost: number): Promise<void> {
    this.#left -= cost;
    if (this.#left < 0) {
      await steps.next();
      this.#signal.throwIfAborted();
      this.#left = this.#stepCost;
    }
  }
}
