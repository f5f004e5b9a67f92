/**
 * Work of a start that asks others, such as the API of a cloud. The start waits for them as long as the
 * driver's site says, for all the work together; work that they have not answered or have refused until
 * then is retried behind it.
 */
import { setImmediate } from "node:timers/promises";

import { messageOf, remedyOf } from "../../../common/errors.ts";
import type { EngineContext } from "../context.ts";
import { pauseAfter } from "../../../common/pauses.ts";

interface Job {
  readonly what: string;
  readonly work: () => Promise<void>;
  /** One that is under way. */
  attempt: Promise<void> | undefined;
}

const pauses = { firstMs: 5_000, longestMs: 5 * 60_000 };

/** The work of one start. */
export class StartWork {
  readonly #context: EngineContext;
  readonly #left: Job[] = [];
  readonly #patience = new AbortController();
  readonly #over: Promise<void>;

  constructor(context: EngineContext) {
    this.#context = context;
    const { clock, driver, shutdown } = context;
    const over = Promise.withResolvers<void>();
    this.#over = over.promise;
    if (driver.site.kind === "remote") {
      clock.sleep(driver.site.startPatienceMs, AbortSignal.any([shutdown, this.#patience.signal])).then(
        () => over.resolve(),
        () => over.resolve(),
      );
    }
  }

  /**
   * Does work that may be done again. Returns when it is done, has failed, or is left for later. A driver without a limit
   * to its patience has one attempt.
   *
   * @param what for the log, after "cannot"
   * @throws the reason of the shutdown, also before the work has ended
   */
  async do(what: string, work: () => Promise<void>): Promise<void> {
    const { shutdown } = this.#context;
    shutdown.throwIfAborted();
    const attempt = this.#attempt(what, work);
    const outcome = await Promise.race([
      attempt.then(
        () => "done" as const,
        () => "failed" as const,
      ),
      this.#over.then(() => setImmediate("late" as const)), // Work that asks nobody is done even so.
    ]);
    shutdown.throwIfAborted();
    if (outcome === "late") {
      this.#context.logger.error(`cannot ${what} yet: nobody has answered; it is tried behind`);
    }
    if (outcome !== "done" && this.#context.driver.site.kind === "remote") {
      this.#left.push({ what, work, attempt: outcome === "late" ? attempt : undefined });
    }
  }

  /** The start goes on without what is left, which is done behind. */
  leave(): void {
    this.#patience.abort();
    if (this.#left.length > 0) {
      void this.#context.background.run("do what the start has left", () => this.#finish());
    }
  }

  async #attempt(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.#context.shutdown.aborted) {
        const level = remedyOf(error) === undefined ? "error" : "debug"; // The driver's own checks have told it.
        this.#context.logger[level]({ err: error }, `cannot ${what}: ${messageOf(error)}`);
      }
      throw error;
    }
  }

  async #finish(): Promise<void> {
    const { clock, logger, shutdown } = this.#context;
    for (let failures = 1; this.#left.length > 0; failures++) {
      for (const job of [...this.#left]) {
        try {
          await (job.attempt ?? this.#attempt(job.what, job.work));
          this.#left.splice(this.#left.indexOf(job), 1);
          logger.info(`what the start has left is done: ${job.what}`);
        } catch {
          shutdown.throwIfAborted();
          job.attempt = undefined;
        }
      }
      if (this.#left.length > 0) {
        await clock.sleep(pauseAfter(failures, pauses), shutdown);
      }
    }
  }
}
