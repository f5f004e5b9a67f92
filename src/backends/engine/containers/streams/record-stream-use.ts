/** Events of clients' actions on streams that bypass the backend. */
import { invalid } from "../../../../common/errors.ts";
import {
  type RecordStreamUseRequest,
  StreamUse,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { findContainer } from "../decisions/lookup.ts";

/** Journals an action. @throws not-found; invalid: unknown action */
export async function recordStreamUse(
  context: EngineContext,
  { container, use, execId }: Pick<RecordStreamUseRequest, "container" | "use" | "execId">,
): Promise<void> {
  const record = findContainer(context.state, container);
  const event =
    use === StreamUse.DETACHED && execId !== ""
      ? containerEvent(record, "exec_detach", { execID: execId })
      : containerEvent(record, actionOf(use));
  await context.state.commit((change) => change.event(event));
}

function actionOf(use: StreamUse): string {
  switch (use) {
    case StreamUse.DETACHED:
      return "detach";
    case StreamUse.ARCHIVE_READ:
      return "archive-path";
    case StreamUse.ARCHIVE_WRITTEN:
      return "extract-to-dir";
    default:
      throw invalid("no use of a stream is given");
  }
}
