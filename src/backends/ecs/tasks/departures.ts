/** Tasks that should go by themselves, and are stopped where they do not. */
import { type ECSClient, StopTaskCommand } from "@aws-sdk/client-ecs";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import type { TaskPoller } from "./poller.ts";
import { ownReason } from "./reasons.ts";

/** What departures are watched with. */
export interface DeparturesOptions {
  readonly ecs: AwsService<ECSClient>;
  readonly cluster: string;
  readonly poller: TaskPoller;
  /** Looks, less often, at tasks that are not expected to end yet: somebody in ECS may end them. */
  readonly patientPoller: Pick<TaskPoller, "listen">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An agent that was let go ends at once; AWS tells of it some time later. */
const patienceMs = 60_000;
const retryMs = 5_000;

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
   * @param gone called once it has ended, or once AWS is ending it, whoever asked for that
   */
  expect(arn: string, atMs: number, gone: () => Promise<void>): void {
    this.cancel(arn);
    const cancelled = new AbortController();
    this.#expected.set(arn, cancelled);
    const signal = AbortSignal.any([cancelled.signal, this.#closed.signal]);
    this.#track(
      this.#seeOff(arn, atMs, gone, signal).finally(() => {
        if (this.#expected.get(arn) === cancelled) {
          this.#expected.delete(arn);
        }
      }),
    );
  }

  /** The task is used again. */
  cancel(arn: string): void {
    this.#expected.get(arn)?.abort();
    this.#expected.delete(arn);
  }

  /**
   * Stops a task now. One that has stopped or that AWS has forgotten is no error.
   *
   * @param reason shown in ECS
   * @throws AwsError
   */
  async stop(arn: string, reason: string): Promise<void> {
    const { ecs, cluster } = this.#options;
    try {
      await ecs.send(new StopTaskCommand({ cluster, task: arn, reason: ownReason + reason }));
    } catch (error) {
      if (!isAwsError(error, "InvalidParameterException", "ResourceNotFoundException")) {
        throw error;
      }
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.all(this.#work);
  }

  async #seeOff(arn: string, atMs: number, gone: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      if (await this.#isStoppedBefore(arn, atMs, signal)) {
        await gone();
        return;
      }
      while (!(await this.#hasStopped(arn, patienceMs, signal))) {
        logger.warn({ task: arn }, "a task that should have ended is stopped");
        await this.stop(arn, "the container has ended").catch(async (error: unknown) => {
          logger.warn({ err: error, task: arn }, `cannot stop a task: ${messageOf(error)}`);
          await clock.sleep(retryMs, signal);
        });
      }
      await gone();
    } catch (error) {
      if (!signal.aborted) {
        logger.error({ err: error, task: arn }, `cannot see a task off: ${messageOf(error)}`);
      }
    }
  }

  /** Whether somebody has it stopped before its time. One that AWS does not know may be so new that it does not yet. */
  async #isStoppedBefore(arn: string, atMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock, patientPoller } = this.#options;
    if (atMs <= clock.nowMs()) {
      signal.throwIfAborted();
      return false;
    }
    const stopped = new AbortController();
    const unlisten = patientPoller.listen(arn, (view) => {
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

  /** Whether it has stopped, or AWS has forgotten it, within a time. */
  async #hasStopped(arn: string, limitMs: number, signal: AbortSignal): Promise<boolean> {
    const { poller } = this.#options;
    const stopped = Promise.withResolvers<boolean>();
    const unlisten = poller.listen(arn, (view) => {
      if (view === "missing" || view.stopped) {
        stopped.resolve(true);
      }
    });
    const limit = setTimeout(() => stopped.resolve(false), limitMs);
    const abort = (): void => stopped.reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    try {
      signal.throwIfAborted();
      return await stopped.promise;
    } finally {
      clearTimeout(limit);
      signal.removeEventListener("abort", abort);
      unlisten();
    }
  }

  #track(work: Promise<void>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }
}
