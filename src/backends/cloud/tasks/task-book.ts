/** This backend's records of its tasks, at most one per container. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";

import {
  type TaskPhase,
  type TaskRecord,
  TaskRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import type { State } from "../../state/state.ts";
import type { CloudTasks } from "../contract/cloud-tasks.ts";

/** Log streams that a record names: a container that is started again and again has had any number of tasks. */
const mostStreams = 256;

/** A stream's name without where it is, which depends on the settings of the process that has recorded it. */
const nameOf = (stream: string): string => stream.slice(stream.lastIndexOf(":") + 1);

/** Changed fields of a record. */
export type TaskFields = Omit<MessageInitShape<typeof TaskRecordSchema>, "$typeName" | "containerId">;

/** Records of tasks by container ID. */
export class TaskBook {
  readonly #state: Pick<State, "tasks" | "commit" | "losses">;
  readonly #cloud: Pick<CloudTasks, "logStreamOf">;
  /** Containers whose records this process has written. */
  readonly #written = new Set<string>();

  constructor(state: Pick<State, "tasks" | "commit" | "losses">, cloud: Pick<CloudTasks, "logStreamOf">) {
    this.#state = state;
    this.#cloud = cloud;
  }

  /** The task of a container; undefined if it never had one. */
  of(containerId: string): TaskRecord | undefined {
    return this.#state.tasks.get(containerId);
  }

  all(): readonly TaskRecord[] {
    return [...this.#state.tasks.values()];
  }

  /** Whether this process has written a container's record, which is then no older than its task. */
  hasWritten(containerId: string): boolean {
    return this.#written.has(containerId);
  }

  /** Whether there is no sign of lost records. */
  get isWhole(): boolean {
    return this.#state.losses.length === 0;
  }

  /** Records a change; resolves when it is durable. */
  async note(containerId: string, fields: TaskFields): Promise<TaskRecord> {
    const before = this.of(containerId) ?? { containerId };
    const after = create(TaskRecordSchema, { ...before, ...fields } as MessageInitShape<
      typeof TaskRecordSchema
    >);
    await this.#state.commit((change) => change.tasks.put(after));
    this.#written.add(containerId);
    return after;
  }

  /**
   * Records a container's task and its log stream; of very many streams the last ones are kept.
   *
   * @param fields other changes, as a crash between two records would leave one task with another's agent
   */
  async noteTask(containerId: string, task: string, fields: TaskFields = {}): Promise<TaskRecord> {
    const streams = this.of(containerId)?.logStreams ?? [];
    const stream = this.#cloud.logStreamOf(task);
    return await this.note(containerId, {
      prepared: "",
      ...fields,
      task,
      logStreams: streams.some((each) => nameOf(each) === nameOf(stream))
        ? streams
        : [...streams, stream].slice(-mostStreams),
    });
  }

  /** Records the end of the last run. */
  async noteEnd(containerId: string, exit: FoundExit, phase: TaskPhase): Promise<TaskRecord> {
    return await this.note(containerId, {
      phase,
      exitCode: exit.code,
      oomKilled: exit.oomKilled,
      finishedAt: timestampFromDate(exit.finishedAt),
      endReason: exit.error ?? "",
    });
  }

  /** Drops a removed container's record. */
  async forget(containerId: string): Promise<void> {
    await this.#state.commit((change) => change.tasks.delete(containerId));
    this.#written.delete(containerId);
  }
}

/** The recorded end; undefined while the container runs. */
export function endOf(task: TaskRecord): FoundExit | undefined {
  return task.exitCode === undefined
    ? undefined
    : {
        code: task.exitCode,
        oomKilled: task.oomKilled,
        finishedAt: task.finishedAt === undefined ? new Date(0) : timestampDate(task.finishedAt),
        error: task.endReason,
      };
}
