/** The time in which a container's new start can run in the task of the last one. */
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** Until when a task's agent answers, milliseconds; 0: it does not. */
export function lingersUntilMs(task: TaskRecord | undefined): number {
  return task?.phase === TaskPhase.LINGERING && task.leavesAt !== undefined
    ? Number(task.leavesAt.seconds) * 1000 + task.leavesAt.nanos / 1e6
    : 0;
}
