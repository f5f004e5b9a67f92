/** The time during which a container's next start can reuse the last one's task. */
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** Unix milliseconds until which a task's agent answers; 0 if it does not. */
export function lingersUntilMs(task: TaskRecord | undefined): number {
  return task?.phase === TaskPhase.LINGERING && task.leavesAt !== undefined
    ? Number(task.leavesAt.seconds) * 1000 + task.leavesAt.nanos / 1e6
    : 0;
}
