/** Deletes jobs that their containers no longer need, as Azure keeps them forever. */
import type { Clock } from "../../../common/clock.ts";
import { LatestOnly } from "../../concurrency/latest-only.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { EndedTasks } from "../../cloud/tasks/ended-tasks.ts";
import { parseTask } from "../tags.ts";
import { parseRequest } from "./job-requests.ts";
import type { ContainerJobs } from "./jobs.ts";

/** Dependencies and settings of {@link IdleJobs}. */
export interface IdleJobsOptions {
  readonly jobs: () => Pick<ContainerJobs, "list" | "isRunning" | "isBeingStarted" | "remove">;
  /**
   * The task record of a container, or of the one that has claimed the job if the ID is empty; undefined if there is
   * none.
   */
  readonly recordOf: (containerId: string, job: string) => TaskRecord | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Deletes unused jobs. */
export class IdleJobs {
  readonly #options: IdleJobsOptions;
  readonly #logger: Logger;
  /** Jobs whose execution has ended or whose start has failed, with their pending deletion. */
  readonly #ended: EndedTasks;
  readonly #removals = new Map<string, Promise<void>>();
  readonly #sweeps = new LatestOnly();

  constructor(options: IdleJobsOptions) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "jobs");
    this.#ended = new EndedTasks(options.clock, this.#logger);
  }

  /** Notes that a job's execution has ended: deletes the job once its container's record no longer refers to it. */
  ended(job: string, containerId: string): void {
    this.#ended.watch(job, () => this.#removed(job, containerId, () => Promise.resolve(false)));
  }

  /**
   * Notes that a job's start has failed: deletes the job once its container's record no longer refers to it and nothing
   * of it runs.
   */
  failed(job: string, containerId: string): void {
    this.#ended.watch(job, () => this.#removed(job, containerId, () => this.#options.jobs().isRunning(job)));
  }

  /**
   * Deletes idle jobs that no container's record refers to, once for all who ask meanwhile: removals of volumes do so
   * again and again. Logs those that cannot be deleted yet.
   */
  sweep(): Promise<void> {
    return this.#sweeps.run(() => this.#sweep());
  }

  async #sweep(): Promise<void> {
    const jobs = this.#options.jobs();
    for (const { name, containerId } of await jobs.list()) {
      try {
        await this.#removed(name, containerId, () => jobs.isRunning(name));
      } catch (error) {
        this.#ended.report(name, error);
      }
    }
  }

  async close(): Promise<void> {
    await this.#ended.close();
  }

  /** Deletes a job, unless it is needed or runs. @returns whether it did */
  async #removed(job: string, containerId: string, isRunning: () => Promise<boolean>): Promise<boolean> {
    if (this.#isNeeded(job, containerId) || (await isRunning())) {
      return false;
    }
    await this.#remove(job, containerId);
    return true;
  }

  /** Concurrent deletions share one call, as Azure refuses a second one. */
  async #remove(job: string, containerId: string): Promise<void> {
    const remove = async (): Promise<void> => {
      await this.#options.jobs().remove(job);
      this.#logger.info({ task: job, container: containerId }, "deleted a job that is not needed any more");
    };
    const underWay = this.#removals.get(job) ?? remove().finally(() => this.#removals.delete(job));
    this.#removals.set(job, underWay);
    await underWay;
  }

  /** Whether a container's record refers to a job that runs, is requested, or lingers, or the job is being prepared. */
  #isNeeded(job: string, containerId: string): boolean {
    const { jobs, recordOf } = this.#options;
    if (jobs().isBeingStarted(job)) {
      return true;
    }
    const record = recordOf(containerId, job);
    return record !== undefined && record.phase !== TaskPhase.GONE && isOf(record, job);
  }
}

/** Whether a record belongs to a job, by its task or its request. */
export function isOf({ task, request }: Pick<TaskRecord, "task" | "request">, job: string): boolean {
  return task === "" ? request !== "" && parseRequest(request).name === job : parseTask(task).job === job;
}
