/** Whether a container's new start can run in the task of the last one. */
import type { RunTaskCommandInput } from "@aws-sdk/client-ecs";

import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { generationVariable } from "./variables.ts";

/** Until when a task's agent answers, milliseconds; 0: it does not. */
export function lingersUntilMs(task: TaskRecord | undefined): number {
  return task?.phase === TaskPhase.LINGERING && task.leavesAt !== undefined
    ? Number(task.leavesAt.seconds) * 1000 + task.leavesAt.nanos / 1e6
    : 0;
}

/**
 * Whether a task that was asked for like this is what a start asks for now: the same but for the start's number.
 *
 * @param journalled empty: not known, of a task that was found after the state was lost
 */
export function isSameTask(journalled: string, request: RunTaskCommandInput): boolean {
  return journalled !== "" && withoutStart(JSON.parse(journalled)) === withoutStart(request);
}

function withoutStart(request: RunTaskCommandInput): string {
  return JSON.stringify({ ...request, clientToken: undefined }, (_key, value: unknown) =>
    Array.isArray(value) ? value.filter((item) => item?.name !== generationVariable) : value,
  );
}
