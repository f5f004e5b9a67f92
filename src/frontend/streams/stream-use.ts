/** Reports to the backend what clients did with streams that bypass it. */
import { StreamUse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { RequestContext } from "../request-context.ts";

/** Milliseconds for which a client waits for the event of its action. */
const limitMs = 5_000;

/**
 * Has an event journalled. The client's action is complete by then and does not fail if this does.
 *
 * @param execId ID of the exec that was detached
 */
export async function recordStreamUse(
  { services, logger }: Pick<RequestContext, "services" | "logger">,
  container: string,
  use: StreamUse,
  execId = "",
): Promise<void> {
  try {
    await services.backend.containers.recordStreamUse({ container, use, execId }, { timeoutMs: limitMs });
  } catch (error) {
    logger.warn({ err: error, container, use: StreamUse[use] }, "an event is missing");
  }
}
