/** Watches that tasks end by themselves, and stops those that do not. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { after } from "../../../common/timers.ts";
import type { CloudTasks } from "../contract/cloud-tasks.ts";
import type { TaskPoller } from "./poller.ts";

/** Dependencies of the watch. */
export interface DeparturesOptions {
  readonly cloud: Pick<CloudTasks, "stop">;
  readonly poller: TaskPoller;
  /** A slower poller for tasks that are not expected to end yet, as a user of the cloud may stop them. */
  readonly patientPoller: Pick<TaskPoller, "listen">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How a task leaves. */
export interface Leaving {
  /** Called at the deadline, for a task that stays until it is released. */
  readonly letGo?: (() => Promise<unknown>) | undefined;
  /** Whether a task that has not left is used all the same, and is not stopped. */
  readonly isUsed?: () => Promise<boolean>;
}

/** Time for the end of a released agent's task; the agent ends at once, but the cloud reports it later. */
const patienceMs = 60_000;
const retryMs = 5_000;
/** Time after which a task that still runs despite an accepted stop is stopped again. */
const stoppedWithinMs = 600_000;

/** Makes sure that tasks end. */
export class Departures {
  readonly #options: DeparturesOptions;
  readonly #closed = new AbortController();
  readonly #expected = new Map<string, AbortController>();
  readonly #work = new Set<Promise<void>>();

  constructor(options: DeparturesOptions) {
    this.#options = options;
  }

  /**
   * Expects a task to end, and stops it if it has not some time after the deadline.
   *
   * @param atMs its normal deadline
   * @param gone called once it has ended, or is being stopped by anyone
   */
  expect(task: string, atMs: number, gone: () => Promise<void>, leaving: Leaving = {}): void {
    this.cancel(task);
    const cancelled = new AbortController();
    this.#expected.set(task, cancelled);
    const signal = AbortSignal.any([cancelled.signal, this.#closed.signal]);
    this.#track(
      this.#seeOff(task, atMs, { gone, ...leaving }, signal).finally(() => {
        if (this.#expected.get(task) === cancelled) {
          this.#expected.delete(task);
        }
      }),
    );
  }

  /** Whether a task is expected to end. */
  expects(task: string): boolean {
    return this.#expected.has(task);
  }

  /** Cancels the expectation, as the task is reused. */
  cancel(task: string): void {
    this.#expected.get(task)?.abort();
    this.#expected.delete(task);
  }

  /**
   * Stops a task now. No error if it has stopped, or the cloud no longer knows it.
   *
   * @param reason shown in the cloud
   * @throws CloudError
   */
  async stop(task: string, reason: string): Promise<void> {
    await this.#options.cloud.stop(task, reason);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.all(this.#work);
  }

  async #seeOff(
    task: string,
    atMs: number,
    { gone, letGo, isUsed }: Leaving & { readonly gone: () => Promise<void> },
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      if (await this.#isStoppedBefore(task, atMs, signal)) {
        await gone();
        return;
      }
      await letGo?.();
      let isAgreed = false;
      while (!(await this.#hasStopped(task, isAgreed, signal))) {
        if (await isUsed?.()) {
          return;
        }
        logger.warn({ task }, "a task that should have ended is stopped");
        try {
          await this.stop(task, "the container has ended");
          isAgreed = true;
        } catch (error) {
          isAgreed = false;
          logger.warn({ err: error, task }, `cannot stop a task: ${messageOf(error)}`);
          await clock.sleep(retryMs, signal);
        }
      }
      await gone();
    } catch (error) {
      if (!signal.aborted) {
        logger.error({ err: error, task }, `cannot see a task off: ${messageOf(error)}`);
      }
    }
  }

  /** Whether anyone stops the task before its deadline. A task unknown to the cloud may just be too new. */
  async #isStoppedBefore(task: string, atMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock, patientPoller } = this.#options;
    if (atMs <= clock.nowMs()) {
      signal.throwIfAborted();
      return false;
    }
    const stopped = new AbortController();
    const unlisten = patientPoller.listen(task, (view) => {
      if (view !== "missing" && (view.stopping || view.stopped)) {
        stopped.abort();
      }
    });
    try {
      await clock.sleep(atMs - clock.nowMs(), AbortSignal.any([signal, stopped.signal]));
      return false;
    } catch (error) {
      if (signal.aborted) {
        throw error;
      }
      return true;
    } finally {
      unlisten();
    }
  }

  /**
   * Whether it stops, or the cloud forgets it, within a time limit.
   *
   * @param isAgreed whether the cloud has accepted the stop, after which silence is not evidence of the end
   */
  async #hasStopped(task: string, isAgreed: boolean, signal: AbortSignal): Promise<boolean> {
    const { clock, poller } = this.#options;
    const stopped = Promise.withResolvers<boolean>();
    let isLate = false;
    const unlisten = poller.listen(task, (view) => {
      if (view === "missing" || view.stopped) {
        stopped.resolve(true);
      } else if (isLate && !view.stopping) {
        stopped.resolve(false);
      }
    });
    using _limit = after(clock, isAgreed ? stoppedWithinMs : patienceMs, () => {
      isLate = true;
      if (!isAgreed) {
        stopped.resolve(false);
      }
    });
    using _leaving = onAbort(signal, () => stopped.reject(signal.reason));
    try {
      return await stopped.promise;
    } finally {
      unlisten();
    }
  }

  #track(work: Promise<void>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }
}
