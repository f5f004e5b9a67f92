/** The part of a running simulator that does not differ by cloud. */
import type { CallLog } from "./calls.ts";
import type { SimulatedClock } from "./clock.ts";
import type { Faults } from "./faults.ts";
import type { Rates } from "./rates.ts";

/** The context that all services of a simulated cloud share, and what the test controls. */
export interface CloudContext {
  readonly clock: SimulatedClock;
  readonly calls: CallLog;
  readonly faults: Faults;
  readonly rates: Rates;
  readonly delays: object;
  readonly switches: object;
  /** A directory of this simulator's own on this machine; it is removed at the end. */
  readonly directory: string;
}

/** A running simulator. */
export class SimulatedCloud<Context extends CloudContext> implements AsyncDisposable {
  readonly context: Context;
  readonly #stack: AsyncDisposableStack;

  constructor(context: Context, stack: AsyncDisposableStack) {
    this.context = context;
    this.#stack = stack;
  }

  get clock(): SimulatedClock {
    return this.context.clock;
  }

  get calls(): CallLog {
    return this.context.calls;
  }

  get faults(): Faults {
    return this.context.faults;
  }

  get rates(): Rates {
    return this.context.rates;
  }

  get delays(): Context["delays"] {
    return this.context.delays;
  }

  get switches(): Context["switches"] {
    return this.context.switches;
  }

  /** Ends everything; nothing is left behind. */
  async stop(): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
