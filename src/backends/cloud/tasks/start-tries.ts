/** Retries of a start that failed before its command began. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { pauseAfter } from "../../../common/pauses.ts";
import type { CloudTasks } from "../contract/cloud-tasks.ts";
import type { Prospect } from "../contract/start-prospect.ts";
import { StartTimeout } from "./start-limit.ts";

/** Callbacks about a start's retries. */
export interface TriesOptions {
  readonly containerId: string;
  readonly cloud: Pick<CloudTasks, "grantDelayMs">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called with the reason before each retry. */
  readonly waits: (reason: string) => void;
  /** Called when the start continues. */
  readonly goesOn: () => void;
  /** Number of earlier failures of the start; default 0. */
  readonly failures?: number;
}

/** Milliseconds before the second and third try; there is no fourth. */
const pausesMs = [2_000, 10_000] as const;
/** Pauses between denied calls. */
const denialPauses = { firstMs: 1_000, longestMs: 10_000 };

/** How a start continues. */
interface NextTry {
  readonly pauseMs: number;
  readonly told: string;
}

/** Counts the failures of one start. */
export class StartTries {
  readonly #options: TriesOptions;
  #failures: number;
  #denials = 0;
  #deniedSinceMs: number | undefined;

  constructor(options: TriesOptions) {
    this.#options = options;
    this.#failures = options.failures ?? 0;
  }

  /** Number of failures so far. */
  get failures(): number {
    return this.#failures;
  }

  /**
   * Waits before the next try.
   *
   * @param reason the cloud's words
   * @param failure thrown if there is no further try
   * @throws system: the start's time is over; the signal's reason
   */
  async pause(prospect: Prospect, reason: string, failure: unknown, signal: AbortSignal): Promise<void> {
    const { clock, logger, containerId, waits } = this.#options;
    const next = prospect === "denied" ? this.#afterDenial() : this.#afterFailure();
    if (next === undefined) {
      throw failure;
    }
    const told = `${next.told} in ${next.pauseMs / 1000} s: ${reason}`;
    logger.warn({ container: containerId }, `a container waits to be started: ${told}`);
    waits(told);
    try {
      await clock.sleep(next.pauseMs, signal);
    } catch (error) {
      throw signal.reason instanceof StartTimeout
        ? systemError(`${messageOf(signal.reason)}: ${reason}`, failure)
        : error;
    }
  }

  /** Reports a wait that does not count as a try: the cloud fails or is unreachable. */
  waits(reason: string): void {
    this.#options.waits(reason);
  }

  /** Reports that the start continues. */
  goesOn(): void {
    this.#options.goesOn();
  }

  #afterFailure(): NextTry | undefined {
    const pauseMs = pausesMs[this.#failures];
    this.#failures += 1;
    return pauseMs === undefined
      ? undefined
      : { pauseMs, told: `try ${this.#failures + 1} of ${pausesMs.length + 1}` };
  }

  #afterDenial(): NextTry | undefined {
    const { clock, cloud } = this.#options;
    this.#deniedSinceMs ??= clock.nowMs();
    const leftMs = this.#deniedSinceMs + cloud.grantDelayMs - clock.nowMs();
    this.#denials += 1;
    return leftMs <= 0
      ? undefined
      : {
          pauseMs: Math.min(pauseAfter(this.#denials, denialPauses), leftMs),
          told: "it is denied, or not allowed yet, and asked for again",
        };
  }
}
