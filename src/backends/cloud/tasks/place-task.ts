/** Requests a task from the cloud. */
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import { pauseAfter } from "../../../common/pauses.ts";
import { after } from "../../../common/timers.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import { isUndone } from "../contract/cloud-error.ts";
import {
  type CloudTasks,
  RequestStale,
  type TaskAnswer,
  type TaskRefusal,
  type TaskRequests,
} from "../contract/cloud-tasks.ts";
import type { QuotaLine, QuotaLines } from "./quota-lines.ts";
import { failureOfRefusal, startFailure } from "./task-end.ts";
import type { PhaseListener } from "./task-phases.ts";
import type { LateAnswer, UnansweredRequests } from "./unanswered-requests.ts";

/** Rules for waiting for capacity. */
export interface RoomOptions {
  readonly cloud: Pick<CloudTasks, "names">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether tasks run whose end would make room for this start. */
  readonly isRoomExpected: () => Promise<boolean>;
  /** Milliseconds to wait for the quota while nothing runs whose end would make room. */
  readonly startTimeoutMs: number;
  /** Maximum milliseconds to wait. */
  readonly quotaTimeoutMs: number;
}

/** Dependencies of task placement. */
export interface RunOptions extends RoomOptions {
  readonly cloud: Pick<CloudTasks, "names" | "run">;
  readonly requests: Pick<TaskRequests, "sizeOf" | "fitsQuota">;
  readonly quotaLines: QuotaLines;
  /** Receives requests that the cloud has not answered when their start ends. */
  readonly unanswered: Pick<UnansweredRequests, "leave">;
}

/** A start that needs a task. */
export interface TaskStart {
  readonly containerId: string;
  /** Whether the request may have been sent before and its answer lost. */
  readonly isResumed: boolean;
  /** Aborts the start. */
  readonly signal: AbortSignal;
  /** Called when the quota is exhausted, in the cloud's words, and again if they change. */
  readonly waits: (reason: string) => void;
  /** Called with the time of the successful request. */
  readonly phase: PhaseListener;
}

const pauses = { firstMs: 1_000, longestMs: 5_000 };
/** Time for one size's request while others wait too: on some clouds each container may have a size of its own. */
const eachSizeMs = 100;

/**
 * Requests a task from the cloud. Waits, in a queue with others, while the quota is exhausted, and logs that; requests
 * are idempotent. When the signal aborts, a pending request is left to {@link RunOptions.unanswered}, as it may still
 * create a task.
 *
 * @returns the cloud's name of the task
 * @throws RequestStale; PassingFailure, or another error with the cloud's reason; the signal's reason
 */
export async function placeTask(request: string, start: TaskStart, options: RunOptions): Promise<string> {
  const lineOfSize = (): QuotaLine => options.quotaLines.of(options.requests.sizeOf(request));
  let line = lineOfSize();
  if (line.waiting === 0 || start.isResumed) {
    const answer = await ask(request, start, start.signal, options);
    if ("task" in answer) {
      return answer.task;
    }
    const reason = reasonToWait(answer);
    await refuseAboveQuota(request, reason, options);
    line = lineOfSize(); // During the request the queue may have emptied, and been replaced by a new one.
    line.reason = reason;
  }
  return await waitForRoom(request, start, line, options);
}

/** The cloud's words for a lack of capacity. @throws any other error */
function reasonToWait(refusal: TaskRefusal): string {
  if (refusal.prospect !== "room") {
    throw failureOfRefusal(refusal);
  }
  return refusal.reason;
}

async function waitForRoom(
  request: string,
  start: TaskStart,
  line: QuotaLine,
  options: RunOptions,
): Promise<string> {
  const { cloud, clock, logger, quotaTimeoutMs } = options;
  const isFirst = line.waiting === 0;
  using place = line.join();
  using limit = new QuotaLimit(start.signal, clock, quotaTimeoutMs);
  let told = "";
  const report = (reason: string): void => {
    if (reason !== told) {
      told = reason;
      logger.warn({ container: start.containerId }, `a container waits to be started: ${reason}`);
      start.waits(reason);
    }
  };
  const pause = (refusals: number): Promise<void> =>
    clock.sleep(Math.max(pauseAfter(refusals, pauses), options.quotaLines.size * eachSizeMs), limit.signal);
  report(line.reason);
  try {
    await place.turn(limit.signal);
    if (isFirst) {
      await pause(1);
    }
    for (let refusals = 1; ; refusals++) {
      const answer = await ask(request, start, limit.signal, options);
      if ("task" in answer) {
        line.idleSinceMs = undefined;
        return answer.task;
      }
      line.reason = reasonToWait(answer);
      report(line.reason);
      await refuseAboveQuota(request, line.reason, options);
      await refuseWithoutRoomExpected(line, options);
      await pause(refusals);
    }
  } catch (error) {
    if (limit.isOver) {
      const waited = `after ${quotaTimeoutMs / 1000} s, ${cloud.names.section}.quota_timeout`;
      throw startFailure(`${told} (${waited})`, error, "unavailable");
    }
    throw limit.signal.aborted ? startFailure(told, error, "unavailable") : error;
  }
}

/**
 * Refuses a start for which the quota is too small, or unknown while no task runs whose end would make room.
 *
 * @throws unavailable
 */
async function refuseAboveQuota(
  request: string,
  reason: string,
  { cloud, requests, isRoomExpected }: RunOptions,
): Promise<void> {
  const fits = await requests.fitsQuota(request);
  if (fits === false) {
    throw startFailure(`${reason}; the container needs more than that`, undefined, "unavailable");
  }
  if (fits === undefined && !(await isRoomExpected())) {
    const why = `no task is in the ${cloud.names.place} whose end would make room`;
    throw startFailure(
      `${reason}; ${why}: the container needs more than the quota has, or others use it up`,
      undefined,
      "unavailable",
    );
  }
}

/**
 * Refuses a start that has waited too long while no task runs whose end would make room, as when the quota is too
 * small.
 *
 * @throws unavailable
 */
export async function refuseWithoutRoomExpected(
  line: Pick<QuotaLine, "reason" | "idleSinceMs">,
  { cloud, clock, isRoomExpected, startTimeoutMs }: RoomOptions,
): Promise<void> {
  if (await isRoomExpected()) {
    line.idleSinceMs = undefined;
    return;
  }
  line.idleSinceMs ??= clock.nowMs();
  if (clock.nowMs() - line.idleSinceMs >= startTimeoutMs) {
    throw startFailure(
      `${line.reason}; for ${startTimeoutMs / 1000} s (${cloud.names.section}.start_timeout) no task has run in the ${cloud.names.place} whose end would make room`,
      undefined,
      "unavailable",
    );
  }
}

/** The time limit of a start's wait for the quota. */
class QuotaLimit implements Disposable {
  /** Aborts at the time limit, and with the given signal. */
  readonly signal: AbortSignal;
  readonly #timeout = new AbortController();
  readonly #timer: Disposable;

  constructor(signal: AbortSignal, clock: Clock, limitMs: number) {
    this.signal = AbortSignal.any([signal, this.#timeout.signal]);
    this.#timer = after(clock, limitMs, () => this.#timeout.abort());
  }

  /** Whether the time limit has passed. */
  get isOver(): boolean {
    return this.#timeout.signal.aborted;
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}

async function ask(
  request: string,
  { containerId, phase }: TaskStart,
  signal: AbortSignal,
  { cloud, clock, unanswered }: RunOptions,
): Promise<TaskAnswer> {
  const from = new Date(clock.nowMs());
  const sent = cloud.run(request, signal);
  let answer: TaskAnswer | undefined;
  try {
    answer = await unlessAborted(signal, sent);
    if ("task" in answer) {
      phase({ name: "request", by: "backend", from, until: new Date(clock.nowMs()) });
    }
    return answer;
  } finally {
    if (signal.aborted && !(answer !== undefined && "task" in answer)) {
      unanswered.leave(containerId, lateAnswer(sent, signal));
    }
  }
}

/** The answer to an abandoned request. @param signal the one that ended the wait */
async function lateAnswer(sent: Promise<TaskAnswer>, signal: AbortSignal): Promise<LateAnswer> {
  try {
    const answer = await sent;
    if ("task" in answer) {
      return answer;
    }
    return answer.cause === undefined || isUndone(answer.cause) ? "none" : "unknown";
  } catch (error) {
    return error instanceof RequestStale || error === signal.reason ? "none" : "unknown";
  }
}
