/** Stops containers whose agents cannot be reached. */
import { Code, ConnectError } from "@connectrpc/connect";

import { isErrorKind } from "../../../../common/errors.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { runningContainer } from "../decisions/lookup.ts";
import { buryLost } from "./lost-container.ts";
import type { NotedSignal } from "./send-signal.ts";

/** Time limit for stopping a run without its agent: its stop timeout plus the platform's overhead. */
const endTimeoutMs = 180_000;

/**
 * Stops a run through the driver, if its agent could not be reached with the signal, and records the end. If the driver
 * cannot do so, an unreachable agent is gone, and so is the container.
 *
 * @param error rejection of the signal; rethrown if it has another cause
 * @param superseded aborts when its client has left and another call does the same
 * @throws unavailable: it did not end in time, or is superseded; the driver's errors
 */
export async function endPastAgent(
  context: EngineContext,
  live: LiveContainer,
  { generation }: NotedSignal,
  error: unknown,
  superseded?: AbortSignal,
): Promise<void> {
  if (!isAway(error)) {
    throw error;
  }
  const { silentAgents } = context.driver;
  if (silentAgents.kind === "gone") {
    return;
  }
  if (runningContainer(context.state, live.id, generation) === undefined) {
    return; // It ended by itself in the meantime.
  }
  context.logger.warn({ container: live.id }, "a container is ended past its agent, which does not answer");
  const ends = [context.shutdown, AbortSignal.timeout(endTimeoutMs), ...(superseded ? [superseded] : [])];
  await silentAgents.end(live.id, AbortSignal.any(ends));
  await buryLost(context, live, generation);
}

/** Whether an agent cannot be reached. If it is gone, so is the container, and its watch will report that. */
export function isAway(error: unknown): boolean {
  const isSilent = error instanceof ConnectError && error.code === Code.DeadlineExceeded;
  return isSilent || isErrorKind(error, "unavailable");
}
