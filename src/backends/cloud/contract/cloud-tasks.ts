/**
 * The port of a cloud in which every container that runs is a task of its own. What becomes of a task (`tasks/`) is the
 * same in all clouds; a cloud supplies what is here, in words of its own: requests, names of tasks and reasons stand in
 * the books and are shown to users as the cloud writes them.
 *
 * Rules for every role:
 * - What is already there is left as it is, what is already gone is no error: calls are repeated after a crash.
 * - Failures of the cloud's are {@link CloudError}s, which tell what is known of what they have done.
 */
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { LaunchProgress } from "../../driver/launches.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";
import type { Prospect } from "./start-prospect.ts";

/** A cloud's own terms, for messages to users. */
export interface CloudNames {
  /** The service that runs tasks, as users know it. */
  readonly service: string;
  /** The call that asks for one, as the cloud documents it. */
  readonly run: string;
  /** The thing that tasks run in: `cluster`. */
  readonly place: string;
  /** The place where the cloud keeps output, as users know it. */
  readonly log: string;
  /** The section of the configuration. */
  readonly section: string;
}

/** A task as the cloud tells of it, reduced to what matters here. */
export interface TaskView {
  /** The cloud's name of it. */
  readonly task: string;
  /** How it stands, in the cloud's word, for users. */
  readonly status: string;
  /** The cloud does not know (any more) how it stands: what is told here is what it said before. */
  readonly isUntold: boolean;
  /** Nothing will make it run (again). */
  readonly stopping: boolean;
  readonly stopped: boolean;
  /** The cloud has told why it ends. */
  readonly isReasonTold: boolean;
  /** The instance of sockerless that had it started; empty: none. */
  readonly instance: string;
  /** Empty where it is not ours. */
  readonly containerId: string;
  readonly generation: bigint;
  /** The address of its agent, as {@link AgentFinder} takes it; undefined while nobody knows. */
  readonly address: string | undefined;
  /** Exit code of the container's own process, or its agent's; undefined while it runs, or where it never did. */
  readonly exitCode: number | undefined;
  /** The cloud's words for an end by lack of memory; empty: it was none. */
  readonly outOfMemory: string;
  /**
   * Words for what the cloud, or somebody in it, has done to the task; empty: it ended by itself, or by us.
   */
  readonly interruption: string;
  /** Why it has ended, all that the cloud says of it. */
  readonly reason: string;
  /** How its start goes on where it has ended before its agent was told to run. */
  readonly prospect: Prospect;
  readonly stoppedAt: Date | undefined;
  /** How it came up, by the cloud's clock, as far as the cloud has told. */
  readonly times: TaskTimes;
}

/** Times of a task that comes up; undefined: not yet, or the cloud does not tell. */
export interface TaskTimes {
  readonly created?: Date | undefined;
  readonly pullStarted?: Date | undefined;
  readonly pullStopped?: Date | undefined;
  /** All of its containers run. */
  readonly started?: Date | undefined;
}

/** Whether a task's container has ended: that of one that is stopping may still run. */
export function hasEnded({ stopped, stopping, exitCode }: TaskView): boolean {
  return stopped || (stopping && exitCode !== undefined);
}

/** The cloud's answer about tasks that it was asked for by name. */
export interface DescribedTasks {
  readonly views: readonly TaskView[];
  /** Those that it does not know (yet, or any more). */
  readonly missing: readonly string[];
}

/** No task was given. */
export interface TaskRefusal {
  /** The cloud's words. */
  readonly reason: string;
  /** The failure of the call; undefined: the cloud has answered, with no task. */
  readonly cause: unknown;
  readonly prospect: Prospect;
}

/** The cloud's answer to a request for a task. */
export type TaskAnswer = { readonly task: string } | TaskRefusal;

/** A request names what is not there any more: it has to be made anew. No task was given. */
export class RequestStale extends Error {}

/** Tasks. */
export interface CloudTasks {
  readonly names: CloudNames;
  /** How many tasks one call tells of; what fails or hangs is a call. */
  readonly describedAtOnce: number;
  /** Whether it tells, some time after the agent has answered, when a task's images were pulled and its containers started. */
  readonly tellsPhases: boolean;
  /**
   * Asks for a task; the same request again is answered with the task of the first time. Once the call is on its way it
   * is seen through: whoever asked may leave it when the signal aborts, and come back for the answer.
   *
   * @throws RequestStale; the signal's reason: nothing was asked
   */
  run(request: string, signal: AbortSignal): Promise<TaskAnswer>;
  /**
   * Has a task stopped.
   *
   * @param reason shown in the cloud; a stop with it does not count as an interruption
   */
  stop(task: string, reason: string): Promise<void>;
  /** Tells of tasks, {@link describedAtOnce} at most. */
  describe(tasks: readonly string[], signal: AbortSignal): Promise<DescribedTasks>;
  /** The names of this instance's tasks that are meant to run; those that have ended may be among them. */
  listOwn(): Promise<readonly string[]>;
  /** Whether any task is there, whoever owns it, whose end makes room for another. */
  isAnyRunning(): Promise<boolean>;
  /** The stream of the cloud's log to which a task writes. */
  logStreamOf(task: string): string;
  /** How long a right that was just granted may be denied all the same, milliseconds. */
  readonly grantDelayMs: number;
}

/**
 * Does a step of a start, again and again while the cloud fails.
 *
 * @param stillTo what is told of the start if its time is over before the step is done: `the cloud has not …`
 */
export type StartStep = <T>(stillTo: string, step: () => Promise<T>) => Promise<T>;

/**
 * The requests for containers' tasks: text that is kept in the books and tells a later process everything.
 */
export interface TaskRequests {
  /**
   * Makes ready what a task is made from, and the request: the same for the same start, whoever asks.
   *
   * @param phase hears of parts that take their time; absent: nobody does
   */
  make(spec: WorkloadSpec, step: StartStep, phase?: LaunchProgress["phase"]): Promise<string>;
  /** The request that is {@link RequestStale}, made anew for the same task. */
  renew(
    request: string,
    spec: WorkloadSpec,
    step: StartStep,
    phase?: LaunchProgress["phase"],
  ): Promise<string>;
  /**
   * The same request for another task than the last that was asked for: the same whoever asks.
   *
   * @param last the cloud's name of the task that has ended; empty: none was given
   */
  another(request: string, last: string): string;
  /** The request for capacity of another kind, where there is none of the kind asked for; undefined: it is not wanted. */
  otherCapacity(request: string): string | undefined;
  /** Whether two starts of a container ask for the same task, but for their numbers. */
  isAlike(one: string, other: string): boolean;
  /** The size of the task that a request asks for, as text: starts of one size wait for room in one line. */
  sizeOf(request: string): string;
  /** Refuses a container that no task can be, or that the account's quota has no room for at all. @throws invalid */
  refuseUnfit(record: ContainerRecord, mounts: readonly ResolvedMount[]): Promise<void>;
  /** Whether the account's quota has room for a task where no other runs; undefined: nobody knows the quota. */
  fitsQuota(request: string): Promise<boolean | undefined>;
  /** Paths of the volumes that a task has without a mount: the agent makes their directories. */
  unmountedVolumes(spec: WorkloadSpec): readonly string[];
  /** The failure of a start, in Docker's words where the cloud's own say less. */
  explainFailure(error: unknown, mounts: readonly ResolvedMount[]): unknown;
}
