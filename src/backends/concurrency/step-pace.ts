/** Shares the event loop between long looks at data and everything else. */
import { Turns } from "../../common/turns.ts";

/** The steps of all looks of one kind together: one in each turn of the event loop. */
export class Steps {
  readonly cost: number;
  readonly turns = new Turns(1);

  /** @param cost of a step, in what the looks count: files, bytes; a few milliseconds of work */
  constructor(cost: number) {
    this.cost = cost;
  }
}

/** The pace of one look, over all its passes. */
export class StepPace {
  readonly #steps: Steps;
  readonly #signal: AbortSignal;
  #left = 0;

  /** @param signal ends the look with its reason */
  constructor(steps: Steps, signal: AbortSignal) {
    this.#steps = steps;
    this.#signal = signal;
  }

  /** Waits for a turn once the cost of a step has been spent. @throws the signal's reason */
  async spend(cost: number): Promise<void> {
    this.#left -= cost;
    if (this.#left < 0) {
      await this.#steps.turns.next();
      this.#signal.throwIfAborted();
      this.#left = this.#steps.cost;
    }
  }
}
