/** Logs that went with an agent before they were taken. */
import { messageOf } from "../../../common/errors.ts";
import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { TaskContext } from "./task-context.ts";

/**
 * Has the cloud's log be shown from now on, unless the last run's was taken, though a crash has kept that from being noted. A
 * disk that takes no mark costs a warning, and nothing else.
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
