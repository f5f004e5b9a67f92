/**
 * The interface of a cloud in which every running container is a task. The life of a task (`tasks/`) is the same in all
 * clouds; a cloud implements this interface in its own terms: requests, task names and reasons are recorded and shown
 * to users as the cloud writes them.
 *
 * Rules for every role:
 * - Operations are idempotent, as calls are repeated after a crash: existing resources are kept, and missing ones are
 *   no error.
 * - Failures of the cloud are {@link CloudError}s, which tell what is known about their effect.
 */
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { LaunchProgress } from "../../driver/launches.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";
import type { Prepared } from "./prepared-tasks.ts";
import type { Prospect } from "./start-prospect.ts";

/** A cloud's terms, for messages to users. */
export interface CloudNames {
  /** The name of the service that runs tasks. */
  readonly service: string;
  /** The name of the call that requests a task. */
  readonly run: string;
  /** The kind of resource that tasks run in: `cluster`. */
  readonly place: string;
  /** The name of the place where the cloud keeps output. */
  readonly log: string;
  /** The section of the configuration. */
  readonly section: string;
}

/** A task's description by the cloud, reduced to what matters here. */
export interface TaskView {
  /** The cloud's name of the task. */
  readonly task: string;
  /** Its state in the cloud's words, for users. */
  readonly status: string;
  /** True if the cloud no longer knows its state: this is the last known one. */
  readonly isUntold: boolean;
  /** True if it will never run (again). */
  readonly stopping: boolean;
  readonly stopped: boolean;
  /** True if the cloud has given the reason for its end. */
  readonly isReasonTold: boolean;
  /** The instance of sockerless that started it; empty if none. */
  readonly instance: string;
  /** Empty if it is not ours. */
  readonly containerId: string;
  readonly generation: bigint;
  /** Set if it was prepared; its container is the one that has claimed it, if any. */
  readonly prepared?: Prepared | undefined;
  /** The address of its agent for {@link AgentFinder}; undefined while unknown. */
  readonly address: string | undefined;
  /** Exit code of the container's process or its agent; undefined while it runs, or if it never did. */
  readonly exitCode: number | undefined;
  /** The cloud's words for an out-of-memory end; empty otherwise. */
  readonly outOfMemory: string;
  /** Words for what the cloud, or someone using it, did to the task; empty if it ended by itself or was stopped by us. */
  readonly interruption: string;
  /** The cloud's complete reason for its end. */
  readonly reason: string;
  /** How its start continues if it ended before its agent was told to run. */
  readonly prospect: Prospect;
  readonly stoppedAt: Date | undefined;
  /** The times of its start by the cloud's clock, as far as reported. */
  readonly times: TaskTimes;
}

/** Times of a task's start; undefined if not reached yet, or not reported. */
export interface TaskTimes {
  readonly created?: Date | undefined;
  readonly pullStarted?: Date | undefined;
  readonly pullStopped?: Date | undefined;
  /** All of its containers run. */
  readonly started?: Date | undefined;
}

/** Whether a task's container has ended; the container of a stopping task may still run. */
export function hasEnded({ stopped, stopping, exitCode }: TaskView): boolean {
  return stopped || (stopping && exitCode !== undefined);
}

/** The cloud's answer about named tasks. */
export interface DescribedTasks {
  readonly views: readonly TaskView[];
  /** Tasks that it does not know (yet, or any more). */
  readonly missing: readonly string[];
}

/** No task was given. */
export interface TaskRefusal {
  /** The reason in the cloud's words. */
  readonly reason: string;
  /** The failure of the call; undefined if the cloud answered without a task. */
  readonly cause: unknown;
  readonly prospect: Prospect;
}

/** The result of a request for a task. */
export type TaskAnswer = { readonly task: string } | TaskRefusal;

/** A request refers to something that no longer exists and must be made anew. No task was given. */
export class RequestStale extends Error {}

/** Tasks. */
export interface CloudTasks {
  readonly names: CloudNames;
  /** Maximum number of tasks that one call describes; calls fail or hang as a whole. */
  readonly describedAtOnce: number;
  /** The place of a task, where one call describes those of one place only. */
  placeOf?(task: string): string;
  /**
   * Whether it reports, some time after the agent has answered, when a task's images were pulled and its containers
   * started.
   */
  readonly tellsPhases: boolean;
  /**
   * Requests a task; idempotent per request. Once sent, the call is completed: the caller may leave when the signal
   * aborts, and come back for the answer.
   *
   * @throws RequestStale; the signal's reason if nothing was requested
   */
  run(request: string, signal: AbortSignal): Promise<TaskAnswer>;
  /**
   * Stops a task.
   *
   * @param reason shown in the cloud; a stop with it does not count as an interruption
   */
  stop(task: string, reason: string): Promise<void>;
  /**
   * Calls back once the cloud reports, unasked, that a task's container has ended; at once if it already has. Clouds that
   * report nothing by themselves never call.
   *
   * @returns ends the listening
   */
  onEnd(task: string, ended: () => void): () => void;
  /** Describes tasks, at most {@link describedAtOnce}, of one {@link placeOf place}. */
  describe(tasks: readonly string[], signal: AbortSignal): Promise<DescribedTasks>;
  /** The names of this instance's tasks that should be running; may include ended ones. */
  listOwn(): Promise<readonly string[]>;
  /** Whether there is any task, of any owner, whose end would make room for another. */
  isAnyRunning(): Promise<boolean>;
  /** A task's stream in the cloud's log. */
  logStreamOf(task: string): string;
  /** Milliseconds for which a new permission may still be denied. */
  readonly grantDelayMs: number;
}

/**
 * Runs a step of a start, retrying while the cloud fails.
 *
 * @param stillTo the error message if the start times out before the step is done: `the cloud has not …`
 * @param step its signal aborts once the start has ended, or its time
 */
export type StartStep = <T>(stillTo: string, step: (signal?: AbortSignal) => Promise<T>) => Promise<T>;

/** Requests for containers' tasks, recorded as text that is self-contained for a later process. */
export interface TaskRequests {
  /**
   * Prepares a task's resources and the request, which is recorded before it is sent.
   *
   * @param phase receives the phases that take long
   */
  make(spec: WorkloadSpec, step: StartStep, phase?: LaunchProgress["phase"]): Promise<string>;
  /** Renews a stale request ({@link RequestStale}) for the same task. */
  renew(
    request: string,
    spec: WorkloadSpec,
    step: StartStep,
    phase?: LaunchProgress["phase"],
  ): Promise<string>;
  /**
   * The same request for another task than the last one; deterministic.
   *
   * @param last the cloud's name of the ended task; empty if none was given
   */
  another(request: string, last: string): string;
  /**
   * The request for another kind of capacity if the requested kind is unavailable; undefined if that is not allowed.
   */
  otherCapacity(request: string): string | undefined;
  /** Whether two starts of a container request the same task, except for their numbers. */
  isAlike(one: string, other: string): boolean;
  /** The size of the requested task, as text: starts of one size share a queue for capacity. */
  sizeOf(request: string): string;
  /** Refuses a container that cannot be a task, or that exceeds the account's quota by itself. @throws invalid */
  refuseUnfit(record: ContainerRecord, mounts: readonly ResolvedMount[]): Promise<void>;
  /** Whether the account's quota has room for a task if no other runs; undefined if the quota is unknown. */
  fitsQuota(request: string): Promise<boolean | undefined>;
  /** Paths of volumes that a task does not mount: the agent creates directories there. */
  unmountedVolumes(spec: WorkloadSpec): readonly string[];
  /** The error of a start, in Docker's words if the cloud's say less. */
  explainFailure(error: unknown, mounts: readonly ResolvedMount[]): unknown;
}
