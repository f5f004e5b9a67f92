/** This backend's records of its tasks: at most one for each container. */
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

/** Fields of a record that change. */
export type TaskFields = Omit<MessageInitShape<typeof TaskRecordSchema>, "$typeName" | "containerId">;

/** The records of tasks, by their containers' IDs. */
export class TaskBook {
  readonly #state: Pick<State, "tasks" | "commit" | "losses">;
  readonly #cloud: Pick<CloudTasks, "logStreamOf">;

  constructor(state: Pick<State, "tasks" | "commit" | "losses">, cloud: Pick<CloudTasks, "logStreamOf">) {
    this.#state = state;
    this.#cloud = cloud;
  }

  /** The task of a container; undefined: it never had one. */
  of(containerId: string): TaskRecord | undefined {
    return this.#state.tasks.get(containerId);
  }

  all(): readonly TaskRecord[] {
    return [...this.#state.tasks.values()];
  }

  /** Whether nothing tells that records are lost. */
  get isWhole(): boolean {
    return this.#state.losses.length === 0;
  }

  /** Writes down a change; resolves when it is durable. */
  async note(containerId: string, fields: TaskFields): Promise<TaskRecord> {
    const before = this.of(containerId) ?? { containerId };
    const after = create(TaskRecordSchema, { ...before, ...fields } as MessageInitShape<
      typeof TaskRecordSchema
    >);
    await this.#state.commit((change) => change.tasks.put(after));
    return after;
  }

  /** The task that the cloud has given a container, and with it where its output goes. */
  async noteTask(containerId: string, task: string): Promise<TaskRecord> {
    const streams = this.of(containerId)?.logStreams ?? [];
    const stream = this.#cloud.logStreamOf(task);
    return await this.note(containerId, {
      task,
      logStreams: streams.includes(stream) ? streams : [...streams, stream],
    });
  }

  /** How the last run has ended. */
  async noteEnd(containerId: string, exit: FoundExit, phase: TaskPhase): Promise<TaskRecord> {
    return await this.note(containerId, {
      phase,
      exitCode: exit.code,
      oomKilled: exit.oomKilled,
      finishedAt: timestampFromDate(exit.finishedAt),
      endReason: exit.error ?? "",
    });
  }

  /** The container is gone. */
  async forget(containerId: string): Promise<void> {
    await this.#state.commit((change) => change.tasks.delete(containerId));
  }
}

/** The end that stands in a record; undefined while the container runs. */
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
