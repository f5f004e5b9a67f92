/** Tries of one start, which has failed before its command has begun. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { pauseAfter } from "../../../common/pauses.ts";
import type { CloudTasks } from "../contract/cloud-tasks.ts";
import type { Prospect } from "../contract/start-prospect.ts";
import { StartTimeout } from "./start-limit.ts";

/** Parts of a start that tell of its tries. */
export interface TriesOptions {
  readonly containerId: string;
  readonly cloud: Pick<CloudTasks, "grantDelayMs">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Hears why the start waits, before each try. */
  readonly waits: (reason: string) => void;
  /** Hears that it goes on. */
  readonly goesOn: () => void;
}

/** Pauses before the second and the third try, whatever has failed, milliseconds: there is no fourth. */
const pausesMs = [2_000, 10_000] as const;
/** Between calls that are denied. */
const denialPauses = { firstMs: 1_000, longestMs: 10_000 };

/** The next step of a start that goes on. */
interface NextTry {
  readonly pauseMs: number;
  readonly told: string;
}

/** Counts what one start has met. */
export class StartTries {
  readonly #options: TriesOptions;
  #failures = 0;
  #denials = 0;
  #deniedSinceMs: number | undefined;

  constructor(options: TriesOptions) {
    this.#options = options;
  }

  /**
   * Waits before the start is tried again.
   *
   * @param reason the cloud's words
   * @param failure thrown where it has been tried enough
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

  /** Tells that the start waits, which is no try: the cloud fails, or cannot be reached. */
  waits(reason: string): void {
    this.#options.waits(reason);
  }

  /** Tells that the start goes on: it has waited enough. */
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
