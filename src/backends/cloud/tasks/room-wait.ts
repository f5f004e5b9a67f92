/** Starts whose tasks got no room after all: some of what a task needs a cloud looks for only once it has begun. */
import { pauseAfter } from "../../../common/pauses.ts";
import { refuseWhereNoneComes, type RoomOptions, type TaskStart } from "./place-task.ts";
import { startFailure } from "./task-end.ts";

const pauses = { firstMs: 2_000, longestMs: 30_000 };

/** The wait of one start, by the rules of the wait for the account's quota. Who waits is in no line: each asks for itself. */
export class RoomWait {
  readonly #start: Pick<TaskStart, "containerId" | "waits">;
  readonly #options: RoomOptions;
  readonly #room: { reason: string; idleSinceMs: number | undefined } = {
    reason: "",
    idleSinceMs: undefined,
  };
  #sinceMs: number | undefined;
  /** How often it has waited, this time included. */
  #waits = 0;

  constructor(start: Pick<TaskStart, "containerId" | "waits">, options: RoomOptions) {
    this.#start = start;
    this.#options = options;
  }

  /**
   * Waits before another task is asked for.
   *
   * @param reason the cloud's words for the end of the last one
   * @throws unavailable, with these words: the time for waiting is over, or the signal aborts
   */
  async pause(reason: string, signal: AbortSignal): Promise<void> {
    const { cloud, clock, logger, quotaTimeoutMs } = this.#options;
    this.#sinceMs ??= clock.nowMs();
    if (reason !== this.#room.reason) {
      this.#room.reason = reason;
      logger.warn({ container: this.#start.containerId }, `a container waits to be started: ${reason}`);
    }
    this.#start.waits(reason); // Each time: since the last the start went on, with another task.
    await refuseWhereNoneComes(this.#room, this.#options);
    const leftMs = this.#sinceMs + quotaTimeoutMs - clock.nowMs();
    if (leftMs <= 0) {
      throw startFailure(
        `${reason} (after ${quotaTimeoutMs / 1000} s, ${cloud.names.section}.quota_timeout)`,
        undefined,
        "unavailable",
      );
    }
    this.#waits += 1;
    try {
      await clock.sleep(Math.min(pauseAfter(this.#waits, pauses), leftMs), signal);
    } catch (error) {
      throw startFailure(reason, error, "unavailable");
    }
  }
}
