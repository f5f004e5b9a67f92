/** The part of a cloud by which tasks wait for containers, besides its tasks and requests. */

import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** How a task is prepared. */
export interface Preparation {
  /** 64 hexadecimal digits, in a container ID's place: the agent is reached under it until it is claimed. */
  readonly name: string;
  /** The shape of the requests whose tasks it can be ({@link PreparedTasks.shapeOf}). */
  readonly shape: string;
  /** Milliseconds for which its agent waits to be claimed. */
  readonly waitMs: number;
}

/** A prepared task as the cloud tells of it. */
export interface Prepared extends Pick<Preparation, "name" | "shape"> {
  /** A container that claims it later does not have the time that the cloud gives to containers; absent: it always has. */
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
 * Prepared tasks. The cloud is their book: it tells of each task whether it was prepared (`TaskView.prepared`), and which
 * container has claimed it.
 */
export interface PreparedTasks {
  /** Parts that a task is made with: a container with another network, or anonymous volume, cannot have it. */
  readonly isMadeWith: { readonly networks: boolean; readonly anonymousVolumes: boolean };
  /** A hash of all that a container's request has in common with the requests of tasks that it can run in. */
  shapeOf(request: string): string;
  /** The parts in which two requests of different shape differ, as the documents name them. */
  differences(request: string, other: string): readonly string[];
  /** The size that the task of a request is charged for. */
  sizeOf(request: string): ChargedSize;
  /** The request for a task like a container's that waits to be claimed. */
  prepare(request: string, preparation: Preparation): string;
  /**
   * Writes down in the cloud which container a prepared task is; idempotent.
   *
   * @throws CloudError
   */
  claim(task: string, by: Claimant, signal: AbortSignal): Promise<void>;
}
