/** Tasks that should go by themselves, and are stopped where they do not. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { after } from "../../../common/timers.ts";
import type { CloudTasks } from "../contract/cloud-tasks.ts";
import type { TaskPoller } from "./poller.ts";

/** Parts of the driver that departures are watched with. */
export interface DeparturesOptions {
  readonly cloud: Pick<CloudTasks, "stop">;
  readonly poller: TaskPoller;
  /** Looks, less often, at tasks that are not expected to end yet: somebody in the cloud may end them. */
  readonly patientPoller: Pick<TaskPoller, "listen">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An agent that was let go ends at once; the cloud tells of it some time later. */
const patienceMs = 60_000;
const retryMs = 5_000;
/** A cloud ends a task that it has agreed to stop; one that it tells to run so long after is stopped again. */
const stoppedWithinMs = 600_000;

/** Sees to it that tasks end. */
export class Departures {
  readonly #options: DeparturesOptions;
  readonly #closed = new AbortController();
  readonly #expected = new Map<string, AbortController>();
  readonly #work = new Set<Promise<void>>();

  constructor(options: DeparturesOptions) {
    this.#options = options;
  }

  /**
   * Expects a task to end; one that has not by some time after then is stopped.
   *
   * @param atMs when it ends at the latest if all is well
   * @param gone called once it has ended, or once the cloud is ending it, whoever asked for that
   */
  expect(task: string, atMs: number, gone: () => Promise<void>): void {
    this.cancel(task);
    const cancelled = new AbortController();
    this.#expected.set(task, cancelled);
    const signal = AbortSignal.any([cancelled.signal, this.#closed.signal]);
    this.#track(
      this.#seeOff(task, atMs, gone, signal).finally(() => {
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

  /** The task is used again. */
  cancel(task: string): void {
    this.#expected.get(task)?.abort();
    this.#expected.delete(task);
  }

  /**
   * Stops a task now. One that has stopped or that the cloud has forgotten is no error.
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

  async #seeOff(task: string, atMs: number, gone: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      if (await this.#isStoppedBefore(task, atMs, signal)) {
        await gone();
        return;
      }
      let isAgreed = false;
      while (!(await this.#hasStopped(task, isAgreed, signal))) {
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

  /**
   * Whether somebody has the task stopped before its time. One that the cloud does not know may be too new.
   */
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
   * Whether it has stopped, or the cloud has forgotten it, within a time.
   *
   * @param isAgreed the cloud has agreed to stop it: only its word counts from then on, and silence tells nothing
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
