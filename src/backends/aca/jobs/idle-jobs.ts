/** Jobs whose containers have done with them are deleted: Azure keeps them for ever. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { parseTask } from "../tags.ts";
import { parseRequest } from "./job-requests.ts";
import type { ContainerJobs } from "./jobs.ts";

/** Parts and settings of {@link IdleJobs}. */
export interface IdleJobsOptions {
  readonly jobs: () => Pick<ContainerJobs, "list" | "isRunning" | "remove">;
  /** The books' record of a container; undefined: there is none. */
  readonly recordOf: (containerId: string) => TaskRecord | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** After this time those who look at an execution that has ended have seen it. */
const firstMs = 5_000;
const againMs = 30_000;

/** Deletes jobs once nobody needs them. */
export class IdleJobs {
  readonly #options: IdleJobsOptions;
  readonly #logger: Logger;
  /** Jobs whose execution has ended, or whose start has failed, with the work that deletes them. */
  readonly #ended = new Map<string, Promise<void>>();
  readonly #removals = new Map<string, Promise<void>>();
  readonly #closed = new AbortController();

  constructor(options: IdleJobsOptions) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "jobs");
  }

  /** The execution of a job has ended: it is deleted once its container's record has done with it. */
  ended(job: string, containerId: string): void {
    this.#watch(job, containerId, () => Promise.resolve(false));
  }

  /** The start of a job has failed: it is deleted once its container's record has done with it, and nothing of it runs. */
  failed(job: string, containerId: string): void {
    this.#watch(job, containerId, () => this.#options.jobs().isRunning(job));
  }

  #watch(job: string, containerId: string, isRunning: () => Promise<boolean>): void {
    if (!this.#ended.has(job) && !this.#closed.signal.aborted) {
      this.#ended.set(
        job,
        this.#see(job, containerId, isRunning).finally(() => this.#ended.delete(job)),
      );
    }
  }

  /** Deletes jobs that no container's record names and that run nothing. One that cannot be deleted yet is logged. */
  async sweep(): Promise<void> {
    const jobs = this.#options.jobs();
    for (const { name, containerId } of await jobs.list()) {
      try {
        if (!this.#isNeeded(name, containerId) && !(await jobs.isRunning(name))) {
          await this.#remove(name, containerId);
        }
      } catch (error) {
        this.#tellFailure(name, error);
      }
    }
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await Promise.all(this.#ended.values());
  }

  async #see(job: string, containerId: string, isRunning: () => Promise<boolean>): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#closed;
    for (let pauseMs = firstMs; !signal.aborted; pauseMs = againMs) {
      try {
        await clock.sleep(pauseMs, signal);
        if (!this.#isNeeded(job, containerId) && !(await isRunning())) {
          await this.#remove(job, containerId);
          return;
        }
      } catch (error) {
        if (!signal.aborted) {
          this.#tellFailure(job, error);
        }
      }
    }
  }

  #tellFailure(job: string, error: unknown): void {
    const told = `a job that is not needed any more cannot be deleted yet: ${messageOf(error)}`;
    this.#logger.warn({ job, err: error }, told);
  }

  /** Azure refuses to delete what it is deleting: who comes second waits for the first. */
  async #remove(job: string, containerId: string): Promise<void> {
    const remove = async (): Promise<void> => {
      await this.#options.jobs().remove(job);
      this.#logger.info({ job, container: containerId }, "deleted a job that is not needed any more");
    };
    const underWay = this.#removals.get(job) ?? remove().finally(() => this.#removals.delete(job));
    this.#removals.set(job, underWay);
    await underWay;
  }

  /** Whether a container's record names a job: it runs, is asked for, or lingers. */
  #isNeeded(job: string, containerId: string): boolean {
    const record = this.#options.recordOf(containerId);
    if (record === undefined || record.phase === TaskPhase.GONE) {
      return false;
    }
    return isOf(record, job);
  }
}

/** Whether a record is of a job: its task is one of it, or it asks for it. */
export function isOf({ task, request }: Pick<TaskRecord, "task" | "request">, job: string): boolean {
  return task === "" ? request !== "" && parseRequest(request).name === job : parseTask(task).job === job;
}
