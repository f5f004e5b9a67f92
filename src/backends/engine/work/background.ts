/** Background work: only the engine's end waits for it, and failures are logged. */
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";

/** Pending background work. */
export class BackgroundWork {
  readonly #running = new Set<Promise<void>>();
  readonly #logger: Logger;
  readonly #shutdown: AbortSignal;

  /** @param shutdown once it has aborted, failures are expected and not logged as errors */
  constructor(logger: Logger, shutdown: AbortSignal) {
    this.#logger = logger;
    this.#shutdown = shutdown;
  }

  /**
   * Starts a task. The promise resolves when it has succeeded or failed.
   *
   * @param what for the log: `release container 0123`
   */
  run(what: string, task: () => Promise<void>): Promise<void> {
    const running: Promise<void> = task()
      .catch((error: unknown) => {
        if (this.#shutdown.aborted) {
          this.#logger.debug({ reason: messageOf(error) }, `stopped: ${what}`);
        } else {
          this.#logger.error({ err: error }, `failed: ${what}: ${messageOf(error)}`);
        }
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
    return running;
  }

  /** Waits until no work is pending. */
  async settle(): Promise<void> {
    while (this.#running.size > 0) {
      await Promise.all(this.#running);
    }
  }
}
