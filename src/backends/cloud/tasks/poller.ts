/** One poller for all tasks that somebody waits for: no more calls than it takes, none where nobody waits. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { isRefusal } from "../contract/cloud-error.ts";
import type { CloudTasks, DescribedTasks, TaskView } from "../contract/cloud-tasks.ts";
import { type AllDescribed, describeAll } from "./describe-all.ts";

/** Parts and settings that a poller asks with. */
export interface PollerOptions {
  readonly cloud: Pick<CloudTasks, "describe" | "describedAtOnce">;
  /** Between two rounds, milliseconds. */
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Hears of one task: its state at each round, or that the cloud does not know it (which is normal right after its start). */
export type TaskListener = (view: TaskView | "missing") => void;

/** Hears that a round told nothing of a task: the cloud has refused it, or has not answered. */
export type FailureListener = (error: unknown) => void;

interface Listeners {
  readonly told: TaskListener;
  readonly failed: FailureListener | undefined;
}

/** A task that is new here is looked at so soon, with all that came in the meantime. */
const firstLookMs = 150;
/** Made once: a signal's own reason is an error with a stack each time. */
const woken = new Error("somebody expects news");

/** Asks the cloud how tasks are while somebody listens. Looks that fail are logged once, until one succeeds. */
export class TaskPoller {
  readonly #options: PollerOptions;
  readonly #listeners = new Map<string, Set<Listeners>>();
  /** Tasks that are listened to and whose last look has failed, which the log was told. */
  readonly #untold = new Set<string>();
  /** The last round has failed. */
  #isAway = false;
  readonly #closed = new AbortController();
  /** Cuts the current pause short. */
  #wake: AbortController | undefined;
  #polling: Promise<void> | undefined;
  #nextMs = 0;
  #lastMs = 0;

  constructor(options: PollerOptions) {
    this.#options = options;
  }

  /**
   * Listens to a task.
   *
   * @returns ends that
   */
  listen(task: string, told: TaskListener, failed?: FailureListener): () => void {
    const listeners = this.#listeners.get(task) ?? new Set();
    const listener = { told, failed };
    listeners.add(listener);
    this.#listeners.set(task, listeners);
    this.hasten();
    this.#polling ??= this.#poll();
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(task) === listeners) {
        this.#listeners.delete(task);
        this.#untold.delete(task);
      }
    };
  }

  /**
   * Brings the next round forward, because there will be news soon; but no more than twice as many come as the interval
   * says.
   */
  hasten(): void {
    const { clock, intervalMs } = this.#options;
    const soon = clock.nowMs() + Math.min(firstLookMs, intervalMs);
    const early = Math.max(soon, this.#lastMs + intervalMs / 2);
    this.#nextMs = this.#polling === undefined ? early : Math.min(this.#nextMs, early);
    this.#wake?.abort(woken);
  }

  /** Asks now, once. Tasks that the cloud does not know are left out. */
  async describe(tasks: readonly string[]): Promise<AllDescribed> {
    return await describeAll(this.#options.cloud, tasks, this.#closed.signal);
  }

  /** Asks for one task, soon, with whatever else is asked for by then. @throws the failure of that look */
  async look(task: string): Promise<TaskView | "missing"> {
    const { promise, resolve, reject } = Promise.withResolvers<TaskView | "missing">();
    const { signal } = this.#closed;
    using _closed = onAbort(signal, () => reject(signal.reason));
    const unlisten = this.listen(task, resolve, reject);
    try {
      return await promise;
    } finally {
      unlisten();
    }
  }

  async close(): Promise<void> {
    this.#closed.abort(new Error("the backend is shutting down"));
    await this.#polling;
  }

  async #poll(): Promise<void> {
    const { clock, intervalMs, logger } = this.#options;
    try {
      while (this.#listeners.size > 0 && !this.#closed.signal.aborted) {
        const pauseMs = this.#nextMs - clock.nowMs();
        if (pauseMs > 0) {
          await this.#pause(pauseMs);
          continue;
        }
        this.#lastMs = clock.nowMs();
        this.#nextMs = this.#lastMs + intervalMs;
        try {
          await this.#round();
          this.#isAway = false;
        } catch (error) {
          if (!this.#closed.signal.aborted && !this.#isAway) {
            this.#isAway = true;
            logger.warn({ err: error }, `cannot ask for the state of tasks: ${messageOf(error)}`);
          }
        }
      }
    } finally {
      this.#polling = undefined;
    }
  }

  async #pause(ms: number): Promise<void> {
    this.#wake = new AbortController();
    try {
      await this.#options.clock.sleep(ms, AbortSignal.any([this.#wake.signal, this.#closed.signal]));
    } catch {
      // Woken: somebody new listens, or all is over.
    }
  }

  async #round(): Promise<void> {
    const { cloud, logger } = this.#options;
    const tasks = [...this.#listeners.keys()];
    let refusal: unknown;
    for (let from = 0; from < tasks.length; from += cloud.describedAtOnce) {
      const now = tasks.slice(from, from + cloud.describedAtOnce);
      let answer: DescribedTasks;
      try {
        answer = await cloud.describe(now, this.#closed.signal);
      } catch (error) {
        const isOfThese = isRefusal(error); // Others may be told.
        this.#tellFailure(isOfThese ? now : tasks.slice(from), error);
        if (!isOfThese) {
          throw error;
        }
        refusal = error;
        continue;
      }
      const { views, missing, failed = new Map<string, unknown>() } = answer;
      for (const view of views) {
        this.#tell(view.task, view);
      }
      for (const task of missing) {
        this.#tell(task, "missing");
      }
      for (const [task, error] of failed) {
        if (this.#listeners.has(task) && !this.#untold.has(task)) {
          this.#untold.add(task);
          logger.warn({ task, err: error }, `cannot ask for the state of a task: ${messageOf(error)}`);
        }
        this.#tellFailure([task], error);
      }
    }
    if (refusal !== undefined) {
      throw refusal;
    }
  }

  #tell(task: string, view: TaskView | "missing"): void {
    this.#untold.delete(task);
    for (const { told } of [...(this.#listeners.get(task) ?? [])]) {
      told(view);
    }
  }

  #tellFailure(tasks: readonly string[], error: unknown): void {
    if (this.#closed.signal.aborted) {
      return;
    }
    for (const { failed } of tasks.flatMap((task) => [...(this.#listeners.get(task) ?? [])])) {
      failed?.(error);
    }
  }
}
