/** Whether a container has a process, or is about to have one. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { isActive, isStarting } from "../../../model/records.ts";

/**
 * Whether a container runs, starts, or is about to restart by its policy or a user's restart, including the time
 * between.
 */
export function isUpOrComing({ live }: Pick<EngineContext, "live">, record: ContainerRecord): boolean {
  const known = live.peek(record.id);
  return (
    isActive(record) ||
    isStarting(record) ||
    (known !== undefined && (known.run.start !== undefined || known.run.isRestarted))
  );
}
