/** Waits of starts whose accepted tasks found no capacity: some resources are allocated only after the request. */
import { pauseAfter } from "../../../common/pauses.ts";
import { refuseWithoutRoomExpected, type RoomOptions, type TaskStart } from "./place-task.ts";
import { startFailure } from "./task-end.ts";

const pauses = { firstMs: 2_000, longestMs: 30_000 };

/**
 * The wait of one start, with the same limits as the wait for the account's quota. There is no queue: each start asks
 * for itself.
 */
export class RoomWait {
  readonly #start: Pick<TaskStart, "containerId" | "waits">;
  readonly #options: RoomOptions;
  readonly #room: { reason: string; idleSinceMs: number | undefined } = {
    reason: "",
    idleSinceMs: undefined,
  };
  #sinceMs: number | undefined;
  /** Number of waits, including this one. */
  #waits = 0;

  constructor(start: Pick<TaskStart, "containerId" | "waits">, options: RoomOptions) {
    this.#start = start;
    this.#options = options;
  }

  /**
   * Waits before another task is requested.
   *
   * @param reason the cloud's words about the last task's end
   * @throws unavailable, with these words, if the time limit has passed or the signal aborts
   */
  async pause(reason: string, signal: AbortSignal): Promise<void> {
    const { cloud, clock, logger, quotaTimeoutMs } = this.#options;
    this.#sinceMs ??= clock.nowMs();
    if (reason !== this.#room.reason) {
      this.#room.reason = reason;
      logger.warn({ container: this.#start.containerId }, `a container waits to be started: ${reason}`);
    }
    this.#start.waits(reason); // Reported each time, as the start has continued in between with another task.
    await refuseWithoutRoomExpected(this.#room, this.#options);
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
