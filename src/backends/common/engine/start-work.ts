/**
 * What a start asks of others, such as the API of a cloud. It waits for them as long as the driver's policy says, for all
 * of it together; what they have not answered or have refused until then is done behind, again and again.
 */
import { setImmediate } from "node:timers/promises";

import { messageOf } from "../../../common/errors.ts";
import type { EngineContext } from "./context.ts";

interface Job {
  readonly what: string;
  readonly work: () => Promise<void>;
  /** One that is under way. */
  attempt: Promise<void> | undefined;
}

const firstPauseMs = 5_000;
const longestPauseMs = 5 * 60_000;

/** The work of one start. */
export class StartWork {
  readonly #context: EngineContext;
  readonly #left: Job[] = [];
  readonly #patience = new AbortController();
  readonly #over: Promise<void>;

  constructor(context: EngineContext) {
    this.#context = context;
    const { clock, driver, shutdown } = context;
    const { startPatienceMs } = driver.policy;
    const over = Promise.withResolvers<void>();
    this.#over = over.promise;
    if (startPatienceMs !== undefined) {
      clock.sleep(startPatienceMs, AbortSignal.any([shutdown, this.#patience.signal])).then(
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
      this.#over.then(() => setImmediate("late" as const)), // What asks nobody is done even so.
    ]);
    shutdown.throwIfAborted();
    if (outcome === "late") {
      this.#context.logger.error(`cannot ${what} yet: nobody has answered; it is tried behind`);
    }
    if (outcome !== "done" && this.#context.driver.policy.startPatienceMs !== undefined) {
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
        this.#context.logger.error({ err: error }, `cannot ${what}: ${messageOf(error)}`);
      }
      throw error;
    }
  }

  async #finish(): Promise<void> {
    const { clock, logger, shutdown } = this.#context;
    for (let pauseMs = firstPauseMs; this.#left.length > 0; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
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
        await clock.sleep(pauseMs, shutdown);
      }
    }
  }
}
