/** Telling the backend what clients did with streams that do not pass it. */
import { StreamUse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { RequestContext } from "../request-context.ts";

/** How long a client is kept waiting for the event of what it did. */
const limitMs = 5_000;

/**
 * Has an event journalled. The client's wish is done by then: it does not fail if the event cannot be told.
 *
 * @param execId of an exec that was left
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
