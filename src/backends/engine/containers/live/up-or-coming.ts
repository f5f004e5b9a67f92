/** Whether a container has, or is about to have, a process. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { isActive, isStarting } from "../../../model/records.ts";

/**
 * Whether a container runs, starts, or is about to start again: by its policy, or because a user restarts it, also
 * between its end and the start that follows.
 */
export function isUpOrComing({ live }: Pick<EngineContext, "live">, record: ContainerRecord): boolean {
  const known = live.peek(record.id);
  return (
    isActive(record) ||
    isStarting(record) ||
    (known !== undefined && (known.run.start !== undefined || known.run.isRestarted))
  );
}
