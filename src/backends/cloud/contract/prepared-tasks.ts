/** Tasks that wait for containers: an optional part of a cloud's interface. */

import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** Parameters of a prepared task. */
export interface Preparation {
  /** 64 hexadecimal digits, used like a container ID: the agent is reached under this name until it is claimed. */
  readonly name: string;
  /** The shape of requests that the task can serve ({@link PreparedTasks.shapeOf}). */
  readonly shape: string;
  /** Milliseconds for which its agent waits to be claimed. */
  readonly waitMs: number;
  /** Token of an agent that calls. */
  readonly callToken: string;
}

/** A prepared task as described by the cloud. */
export interface Prepared extends Pick<Preparation, "name" | "shape"> {
  /**
   * A container that claims it later would get less time than the cloud allows containers; absent if there is no limit.
   */
  readonly claimableUntil?: Date | undefined;
}

/** The start of a container that claims a task. */
export type Claimant = Pick<TaskRecord, "containerId" | "launchGeneration" | "request">;

/** The size of a task. */
export interface ChargedSize {
  readonly vcpus: number;
  readonly gib: number;
}

/**
 * Prepared tasks. The cloud has their records: it describes for each task whether it was prepared
 * (`TaskView.prepared`), and which container has claimed it.
 */
export interface PreparedTasks {
  /** Parts fixed at a task's creation: it cannot serve a container with another network, or anonymous volume. */
  readonly isMadeWith: { readonly networks: boolean; readonly anonymousVolumes: boolean };
  /** A hash of everything that a container's request has in common with requests of tasks that can serve it. */
  shapeOf(request: string): string;
  /** The parts in which two requests of different shapes differ, by the names in the documentation. */
  differences(request: string, other: string): readonly string[];
  /** The size that is charged for the task of a request. */
  sizeOf(request: string): ChargedSize;
  /** The request for a task like a container's that waits to be claimed. */
  prepare(request: string, preparation: Preparation): string;
  /**
   * Records in the cloud which container uses a prepared task; idempotent.
   *
   * @throws CloudError
   */
  claim(task: string, by: Claimant, signal: AbortSignal): Promise<void>;
}
