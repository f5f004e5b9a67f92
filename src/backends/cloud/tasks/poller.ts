/** One poller for all tasks with listeners: as few calls as possible, none without listeners. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { Limiter } from "../../concurrency/limiter.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import { type AllDescribed, byCall, describeAll, type Describing } from "./describe-all.ts";

/** Dependencies and settings of a poller. */
export interface PollerOptions {
  readonly cloud: Describing;
  /** Milliseconds between two rounds. */
  readonly intervalMs: number;
  /** Calls that are under way at a time: others share the cloud's rates. Default: any number. */
  readonly mostCalls?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Receives one task's state at each round, or that the cloud does not know it (normal right after its start). */
export type TaskListener = (view: TaskView | "missing") => void;

/** Called if a look failed: the cloud refused it, or did not answer. */
export type FailureListener = (error: unknown) => void;

interface Listeners {
  readonly told: TaskListener;
  readonly failed: FailureListener | undefined;
}

/** Delay of the first look at a new task, together with others added meanwhile. */
const firstLookMs = 150;
/** Created once, as a default reason is an error with a stack each time. */
const woken = new Error("somebody expects news");

/**
 * Polls the states of tasks while there are listeners. Calls are independent: tasks of a hanging call are excluded from
 * further rounds until it ends, and delay others only once `mostCalls` hang. Failed looks are logged once, until one succeeds.
 */
export class TaskPoller {
  readonly #options: PollerOptions;
  readonly #listeners = new Map<string, Set<Listeners>>();
  /** Tasks with listeners whose last look failed, which has been logged. */
  readonly #untold = new Set<string>();
  /** Tasks of pending calls. */
  readonly #looks = new Map<string, Promise<void>>();
  readonly #closed = new AbortController();
  readonly #turns: Limiter;
  /** Ends the current pause early. */
  #wake: AbortController | undefined;
  #polling: Promise<void> | undefined;
  #nextMs = 0;
  #lastMs = 0;

  constructor(options: PollerOptions) {
    this.#options = options;
    this.#turns = new Limiter(options.mostCalls ?? Infinity);
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

  /** Brings the next round forward, because news is expected; at most doubles the rate of rounds. */
  hasten(): void {
    const { clock, intervalMs } = this.#options;
    const nowMs = clock.nowMs();
    const soon = nowMs + Math.min(firstLookMs, intervalMs);
    this.#lastMs = Math.min(this.#lastMs, nowMs); // The clock may have been set back.
    const early = Math.max(soon, this.#lastMs + intervalMs / 2);
    this.#nextMs = this.#polling === undefined ? early : Math.min(this.#nextMs, early);
    this.#wake?.abort(woken);
  }

  /** Describes tasks now, once, without those that the cloud does not know. */
  async describe(tasks: readonly string[]): Promise<AllDescribed> {
    return await describeAll(this.#options.cloud, tasks, this.#closed.signal);
  }

  /** Describes one task soon, in one call with others requested by then. @throws the call's error */
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
      const nowMs = clock.nowMs();
      this.#nextMs = Math.min(this.#nextMs, nowMs + Math.max(1, intervalMs)); // The clock may have been set back.
      if (this.#nextMs > nowMs) {
        await this.#pause(this.#nextMs - nowMs);
        continue;
      }
      this.#lastMs = nowMs;
      this.#nextMs = nowMs + Math.max(1, intervalMs); // Hanging calls delay no round.
      this.#lookAtAll();
    }
    this.#polling = undefined;
  }

  async #pause(ms: number): Promise<void> {
    this.#wake = new AbortController();
    try {
      await this.#options.clock.sleep(ms, AbortSignal.any([this.#wake.signal, this.#closed.signal]));
    } catch {
      // Woken by a new listener, or by closing.
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
      using _turn = await this.#turns.acquire("", signal);
      const awaited = asked.filter((task) => this.#listeners.has(task));
      if (awaited.length === 0) {
        return;
      }
      const { views, missing } = await cloud.describe(awaited, signal);
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
