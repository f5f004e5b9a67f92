/** Logs that went with an agent before they were taken. */
import { messageOf } from "../../../../common/errors.ts";
import type { TaskRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { TaskContext } from "./task-context.ts";

/** Has the cloud's log be shown from now on. A disk that takes no mark of that costs a warning, and nothing else. */
export async function leaveLogToCloud(
  { stored, logger }: TaskContext,
  { containerId, task }: TaskRecord,
): Promise<void> {
  await stored
    .leaveToCloud(containerId)
    .catch((error: unknown) =>
      logger.warn({ container: containerId, task, err: error }, `a log is not whole: ${messageOf(error)}`),
    );
}
