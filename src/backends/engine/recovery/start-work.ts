/**
 * Work during the backend's start that depends on other services, such as a cloud's API. The start waits for all of it
 * together as long as the driver's site allows; work that is unanswered or refused by then is retried in the
 * background.
 */
import { setImmediate } from "node:timers/promises";

import { messageOf, remedyOf } from "../../../common/errors.ts";
import type { EngineContext } from "../context.ts";
import { pauseAfter } from "../../../common/pauses.ts";

interface Job {
  readonly what: string;
  readonly work: () => Promise<void>;
  /** The current attempt. */
  attempt: Promise<void> | undefined;
}

const pauses = { firstMs: 5_000, longestMs: 5 * 60_000 };

/** The work of one backend start. */
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
   * Performs work that may be repeated. Returns when it has succeeded, has failed, or continues in the background. With
   * an unlimited wait there is one attempt.
   *
   * @param what for the log, after "cannot"
   * @throws the reason of the shutdown, even before the work has ended
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
      this.#over.then(() => setImmediate("late" as const)), // Work that needs no other service still completes.
    ]);
    shutdown.throwIfAborted();
    if (outcome === "late") {
      this.#context.logger.error(`cannot ${what} yet: nobody has answered; it is tried behind`);
    }
    if (outcome !== "done" && this.#context.driver.site.kind === "remote") {
      this.#left.push({ what, work, attempt: outcome === "late" ? attempt : undefined });
    }
  }

  /** Ends the wait: unfinished work continues in the background. */
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
        const level = remedyOf(error) === undefined ? "error" : "debug"; // The driver's own checks have reported it.
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
