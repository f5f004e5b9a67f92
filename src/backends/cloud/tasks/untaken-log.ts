/** Logs that were lost with an agent before they were copied. */
import { messageOf } from "../../../common/errors.ts";
import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { TaskContext } from "./task-context.ts";

/**
 * Makes the cloud's log the shown one, unless the last run's log was copied after all but a crash prevented its record.
 * Failure to write the mark only causes a warning.
 */
export async function leaveLogToCloud(
  { agents, stored, logger }: TaskContext,
  record: TaskRecord,
): Promise<void> {
  const { containerId, task, generation } = record;
  const agent = agents.targetOf(record);
  await stored
    .leaveToCloud(containerId, agent && { agent, generation })
    .catch((error: unknown) =>
      logger.warn({ container: containerId, task, err: error }, `a log is not whole: ${messageOf(error)}`),
    );
}
