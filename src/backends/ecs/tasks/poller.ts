/** One poller for all tasks that somebody waits for: one call for every hundred of them, none where nobody waits. */
import { DescribeTasksCommand, type ECSClient } from "@aws-sdk/client-ecs";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { AwsService } from "../aws/clients.ts";
import { type TaskView, viewOf } from "./task-view.ts";

/** What a poller asks with. */
export interface PollerOptions {
  readonly ecs: AwsService<ECSClient>;
  readonly cluster: string;
  /** Between two rounds, milliseconds. */
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Hears of one task: its state at each round, or that AWS does not know it (which is normal right after its start). */
export type TaskListener = (view: TaskView | "missing") => void;

/** Hears that a round told nothing of a task: AWS has refused it, or has not answered. */
export type FailureListener = (error: unknown) => void;

interface Listeners {
  readonly told: TaskListener;
  readonly failed: FailureListener | undefined;
}

/** Tasks that one call describes. */
const describedAtOnce = 100;
/** A task that is new here is looked at so soon, with all that came in the meantime. */
const firstLookMs = 150;
/** Made once: a signal's own reason is an error with a stack each time. */
const woken = new Error("somebody expects news");

/** Asks AWS how tasks are while somebody listens. */
export class TaskPoller {
  readonly #options: PollerOptions;
  readonly #listeners = new Map<string, Set<Listeners>>();
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
  listen(arn: string, told: TaskListener, failed?: FailureListener): () => void {
    const listeners = this.#listeners.get(arn) ?? new Set();
    const listener = { told, failed };
    listeners.add(listener);
    this.#listeners.set(arn, listeners);
    this.hasten();
    this.#polling ??= this.#poll();
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(arn) === listeners) {
        this.#listeners.delete(arn);
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

  /** Asks now, once. Tasks that AWS does not know are left out. */
  async describe(arns: readonly string[]): Promise<readonly TaskView[]> {
    const views: TaskView[] = [];
    for (let from = 0; from < arns.length; from += describedAtOnce) {
      const { tasks = [] } = await this.#describe(arns.slice(from, from + describedAtOnce));
      views.push(...tasks.map(viewOf));
    }
    return views;
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
        } catch (error) {
          if (!this.#closed.signal.aborted) {
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
    const arns = [...this.#listeners.keys()];
    for (let from = 0; from < arns.length; from += describedAtOnce) {
      const { tasks = [], failures = [] } = await this.#describe(
        arns.slice(from, from + describedAtOnce),
      ).catch((error: unknown) => {
        this.#tellFailure(arns.slice(from), error);
        throw error;
      });
      for (const task of tasks) {
        this.#tell(task.taskArn ?? "", viewOf(task));
      }
      for (const { arn = "" } of failures) {
        this.#tell(arn, "missing");
      }
    }
  }

  #describe(tasks: string[]) {
    return this.#options.ecs.send(new DescribeTasksCommand({ cluster: this.#options.cluster, tasks }), {
      abortSignal: this.#closed.signal,
    });
  }

  #tell(arn: string, view: TaskView | "missing"): void {
    for (const { told } of [...(this.#listeners.get(arn) ?? [])]) {
      told(view);
    }
  }

  #tellFailure(arns: readonly string[], error: unknown): void {
    if (this.#closed.signal.aborted) {
      return;
    }
    for (const { failed } of arns.flatMap((arn) => [...(this.#listeners.get(arn) ?? [])])) {
      failed?.(error);
    }
  }
}
