/** One poller for all tasks that somebody waits for: no more calls than it takes, none where nobody waits. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { onAbort } from "../../../common/on-abort.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import { type AllDescribed, byCall, describeAll, type Describing } from "./describe-all.ts";

/** Parts and settings that a poller asks with. */
export interface PollerOptions {
  readonly cloud: Describing;
  /** Between two rounds, milliseconds. */
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Hears of one task: its state at each round, or that the cloud does not know it (which is normal right after its start). */
export type TaskListener = (view: TaskView | "missing") => void;

/** Hears that a look told nothing of a task: the cloud has refused it, or has not answered. */
export type FailureListener = (error: unknown) => void;

interface Listeners {
  readonly told: TaskListener;
  readonly failed: FailureListener | undefined;
}

/** A task that is new here is looked at so soon, with all that came in the meantime. */
const firstLookMs = 150;
/** Made once: a signal's own reason is an error with a stack each time. */
const woken = new Error("somebody expects news");

/**
 * Asks the cloud how tasks are while somebody listens. No call waits for another: tasks of one that hangs are left out of
 * further rounds until it is over. Looks that fail are logged once, until one succeeds.
 */
export class TaskPoller {
  readonly #options: PollerOptions;
  readonly #listeners = new Map<string, Set<Listeners>>();
  /** Tasks that are listened to and whose last look has failed, which the log was told. */
  readonly #untold = new Set<string>();
  /** Tasks that are being asked for, by their call. */
  readonly #looks = new Map<string, Promise<void>>();
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
    await Promise.all([this.#polling, ...this.#looks.values()]);
  }

  async #poll(): Promise<void> {
    const { clock, intervalMs } = this.#options;
    while (this.#listeners.size > 0 && !this.#closed.signal.aborted) {
      const pauseMs = this.#nextMs - clock.nowMs();
      if (pauseMs > 0) {
        await this.#pause(pauseMs);
        continue;
      }
      this.#lastMs = clock.nowMs();
      this.#nextMs = this.#lastMs + Math.max(1, intervalMs); // Calls that hang hold up no round.
      this.#lookAtAll();
    }
    this.#polling = undefined;
  }

  async #pause(ms: number): Promise<void> {
    this.#wake = new AbortController();
    try {
      await this.#options.clock.sleep(ms, AbortSignal.any([this.#wake.signal, this.#closed.signal]));
    } catch {
      // Woken: somebody new listens, or all is over.
    }
  }

  #lookAtAll(): void {
    const tasks = [...this.#listeners.keys()].filter((task) => !this.#looks.has(task));
    for (const asked of byCall(tasks, this.#options.cloud)) {
      const look = this.#lookAt(asked).finally(() => {
        for (const task of asked) {
          this.#looks.delete(task);
        }
      });
      for (const task of asked) {
        this.#looks.set(task, look);
      }
    }
  }

  async #lookAt(asked: readonly string[]): Promise<void> {
    const { cloud } = this.#options;
    const { signal } = this.#closed;
    try {
      const { views, missing } = await cloud.describe(asked, signal);
      for (const view of views) {
        this.#tell(view.task, view);
      }
      for (const task of missing) {
        this.#tell(task, "missing");
      }
    } catch (error) {
      if (!signal.aborted) {
        this.#tellFailure(asked, error);
      }
    }
  }

  #tell(task: string, view: TaskView | "missing"): void {
    this.#untold.delete(task);
    for (const { told } of [...(this.#listeners.get(task) ?? [])]) {
      told(view);
    }
  }

  #tellFailure(asked: readonly string[], error: unknown): void {
    const tasks = asked.filter((task) => this.#listeners.has(task));
    const isNew = tasks.some((task) => !this.#untold.has(task));
    for (const task of tasks) {
      this.#untold.add(task);
    }
    if (isNew) {
      const about = { tasks, err: error };
      this.#options.logger.warn(about, `cannot ask for the state of tasks: ${messageOf(error)}`);
    }
    for (const { failed } of tasks.flatMap((task) => [...(this.#listeners.get(task) ?? [])])) {
      failed?.(error);
    }
  }
}
