/** Tries of one start that fails for reasons that pass. */
import type { Clock } from "../../../../common/clock.ts";
import { messageOf, systemError } from "../../../../common/errors.ts";
import type { Logger } from "../../../../common/logger.ts";
import { pauseAfter } from "../../../../common/pauses.ts";
import { type StartTrouble, troubleOf } from "../start-troubles.ts";
import type { CloudTasks } from "../cloud-tasks.ts";
import { StartTimeout } from "./start-limit.ts";

/** Parts of a start that tell of its tries. */
export interface TriesOptions {
  readonly containerId: string;
  readonly cloud: Pick<CloudTasks, "troubles">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Hears why the start waits, before each try. */
  readonly waits: (reason: string) => void;
  /** Hears that it goes on. */
  readonly goesOn: () => void;
}

/** Counts what one start has met, by rows of the cloud's table. */
export class StartTries {
  readonly #options: TriesOptions;
  readonly #met = new Map<string, number>();

  constructor(options: TriesOptions) {
    this.#options = options;
  }

  /** The row of a refused call that is made again; undefined: it fails the start. */
  rowOfCall(reason: string): StartTrouble | undefined {
    const row = troubleOf(this.#options.cloud.troubles, "call", reason);
    return row === undefined || row.again === "room" ? undefined : row;
  }

  /**
   * Waits before the start is tried again.
   *
   * @param reason the cloud's words
   * @param failure thrown where it has been tried enough
   * @throws system: the start's time is over; the signal's reason
   */
  async pause(trouble: StartTrouble, reason: string, failure: unknown, signal: AbortSignal): Promise<void> {
    const { name, told, again } = trouble;
    const { clock, logger, containerId, waits } = this.#options;
    const met = (this.#met.get(name) ?? 0) + 1;
    this.#met.set(name, met);
    if (again === "room" || met >= again.most) {
      throw failure;
    }
    const pauseMs = pauseAfter(met, { firstMs: again.firstPauseMs, longestMs: Number.POSITIVE_INFINITY });
    const next = `${told}; try ${met + 1} of ${again.most} in ${pauseMs / 1000} s: ${reason}`;
    logger.warn({ container: containerId, trouble: name, met }, `a container waits to be started: ${next}`);
    waits(next);
    try {
      await clock.sleep(pauseMs, signal);
    } catch (error) {
      throw signal.reason instanceof StartTimeout
        ? systemError(`${messageOf(signal.reason)}: ${reason}`, failure)
        : error;
    }
  }

  /** Tells that the start goes on: it has waited enough. */
  goesOn(): void {
    this.#options.goesOn();
  }
}
