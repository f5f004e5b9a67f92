/** Reasons for which tasks do not start: those that a test asks for, and ECS' words for them. */
import type { TaskStopCode } from "@aws-sdk/client-ecs";

import type { TaskState } from "./task-state.ts";

/** A task that does not get to run: its stop code and reason. */
export class StartFailed extends Error {
  readonly stopCode: TaskStopCode;

  constructor(reason: string, stopCode: TaskStopCode = "TaskFailedToStart", cause?: unknown) {
    super(reason, { cause });
    this.stopCode = stopCode;
  }
}

/** A failure of starts that a test asks for. */
export interface StartFailure {
  /** `capacity` is answered by RunTask in `failures`; the others stop a task that has begun. */
  readonly kind: "capacity" | "interface" | "mount" | "pull" | "logs";
  /** ECS' reason; absent: what it says for that kind. */
  readonly reason?: string;
  /** Absent: `TaskFailedToStart`. */
  readonly stopCode?: TaskStopCode;
  /** How many tasks it concerns; 1 where absent. */
  readonly times?: number;
  /** Only tasks for which this holds. */
  readonly where?: (task: TaskState) => boolean;
}

const usualReasons: Readonly<Record<StartFailure["kind"], string>> = {
  capacity:
    "Capacity is unavailable at this time. Please try again later or in a different availability zone",
  interface: "Timeout waiting for network interface provisioning to complete.",
  mount:
    "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: b'mount.nfs4: Connection timed out' : unsuccessful EFS utils command execution; code: 32",
  pull: "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref: failed to do request: dial tcp: i/o timeout",
  logs: "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log stream: RequestCanceled: request context canceled : exit status 1",
};

/** The failures that a test has asked for. */
export class StartFailures {
  #asked: { readonly failure: StartFailure; left: number }[] = [];

  add(failure: StartFailure): void {
    this.#asked.push({ failure, left: failure.times ?? 1 });
  }

  /** The failure that a task meets at this point, used up by one; undefined when it does not. */
  take(kind: StartFailure["kind"], task: TaskState): StartFailed | undefined {
    const entry = this.#asked.find(({ failure }) => failure.kind === kind && failure.where?.(task) !== false);
    if (entry === undefined) {
      return undefined;
    }
    entry.left -= 1;
    this.#asked = this.#asked.filter(({ left }) => left > 0);
    const { reason = usualReasons[kind], stopCode } = entry.failure;
    return new StartFailed(reason, stopCode);
  }
}
