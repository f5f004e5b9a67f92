/** Starts whose tasks got no network interface: EC2 has no room for it, which ECS tells only once a task has begun. */
import { createHash } from "node:crypto";

import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import { startFailure } from "./reasons.ts";
import { refuseWhereNoneComes, type RoomOptions, type TaskStart } from "./run-task.ts";

const firstPauseMs = 2_000;
const longestPauseMs = 30_000;

/** The wait of one start, by the rules of the wait for the quota of vCPUs. Who waits is in no line: each asks for itself. */
export class InterfaceWait {
  readonly #start: Pick<TaskStart, "containerId" | "waits">;
  readonly #options: RoomOptions;
  readonly #room: { reason: string; idleSinceMs: number | undefined } = {
    reason: "",
    idleSinceMs: undefined,
  };
  #sinceMs: number | undefined;
  #pauseMs = firstPauseMs;

  constructor(start: Pick<TaskStart, "containerId" | "waits">, options: RoomOptions) {
    this.#start = start;
    this.#options = options;
  }

  /**
   * Waits before another task is asked for.
   *
   * @param reason AWS's words for the end of the last one
   * @throws unavailable, with these words: the time for waiting is over, or the signal aborts
   */
  async pause(reason: string, signal: AbortSignal): Promise<void> {
    const { clock, logger, quotaTimeoutMs } = this.#options;
    this.#sinceMs ??= clock.nowMs();
    if (reason !== this.#room.reason) {
      this.#room.reason = reason;
      logger.warn({ container: this.#start.containerId }, `a container waits to be started: ${reason}`);
    }
    this.#start.waits(reason); // Each time: since the last the start went on, with another task.
    await refuseWhereNoneComes(this.#room, this.#options);
    const leftMs = this.#sinceMs + quotaTimeoutMs - clock.nowMs();
    if (leftMs <= 0) {
      throw startFailure(`${reason} (after ${quotaTimeoutMs / 1000} s, ecs.quota_timeout)`);
    }
    try {
      await clock.sleep(Math.min(this.#pauseMs, leftMs), signal);
    } catch (error) {
      throw startFailure(reason, error);
    }
    this.#pauseMs = Math.min(2 * this.#pauseMs, longestPauseMs);
  }
}

/** The same request for another task: for its own token AWS would answer with the task that has ended. */
export function withoutTask(request: RunTaskCommandInput, ended: string): RunTaskCommandInput {
  const clientToken = createHash("sha256")
    .update(`${request.clientToken ?? ""}:${ended}`)
    .digest("hex");
  return { ...request, clientToken };
}
