/** Deletes what a platform keeps of ended tasks, once their containers have done with it. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";

/** After this time those who look at an ended task have seen it. */
const firstMs = 5_000;
const againMs = 30_000;

/** Pending deletions, by name. */
export class EndedTasks {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #pending = new Map<string, Promise<void>>();
  readonly #closed = new AbortController();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Tries to delete something until it is gone. @param remove false: it is needed */
  watch(name: string, remove: () => Promise<boolean>): void {
    if (!this.#pending.has(name) && !this.#closed.signal.aborted) {
      this.#pending.set(
        name,
        this.#see(name, remove).finally(() => this.#pending.delete(name)),
      );
    }
  }

  /** Logs why something is still there. */
  report(name: string, error: unknown): void {
    const told = `a task that is not needed any more cannot be deleted yet: ${messageOf(error)}`;
    this.#logger.warn({ task: name, err: error }, told);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.all(this.#pending.values());
  }

  async #see(name: string, remove: () => Promise<boolean>): Promise<void> {
    const { signal } = this.#closed;
    for (let pauseMs = firstMs; !signal.aborted; pauseMs = againMs) {
      try {
        await this.#clock.sleep(pauseMs, signal);
        if (await remove()) {
          return;
        }
      } catch (error) {
        if (!signal.aborted) {
          this.report(name, error);
        }
      }
    }
  }
}
