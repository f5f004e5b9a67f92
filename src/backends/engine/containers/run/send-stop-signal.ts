/** Sends the stop signal, after which a container has time to end by itself. */
import { unavailable } from "../../../../common/errors.ts";
import { newId } from "../../../../common/ids.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { endPastAgent, isAway } from "./end-past-agent.ts";
import type { ExitListener } from "./exit-listener.ts";
import { type NotedSignal, sendSignal } from "./send-signal.ts";

/** Pause between attempts to reach an agent. */
const retryPauseMs = 1_000;

/**
 * Sends the stop signal. If the driver can stop runs without their agents, an unreachable agent is retried for as long
 * as the container may take to end, because stopping the task would give it less time.
 *
 * @param signal journalled
 * @param exit listener for the run's exit
 * @param graceMs time limit; undefined for none
 * @param left ends the wait without limit for an unreachable agent: the client has left
 * @param superseded ends any: the client has left, and another call does the same
 * @throws unavailable: it was cut while the agent was unreachable
 */
export async function sendStopSignal(
  context: EngineContext,
  live: LiveContainer,
  signal: NotedSignal,
  exit: ExitListener,
  graceMs: number | undefined,
  left: AbortSignal,
  superseded: AbortSignal | undefined,
): Promise<void> {
  const deadlineMs = context.clock.nowMs() + (graceMs ?? Number.POSITIVE_INFINITY);
  const cut = graceMs === undefined ? left : superseded;
  const clientToken = newId();
  for (;;) {
    try {
      await sendSignal(context, live, signal, clientToken);
      return;
    } catch (error) {
      const leftMs = deadlineMs - context.clock.nowMs();
      if (!isAway(error) || context.driver.silentAgents.kind === "gone" || leftMs <= 0) {
        await endPastAgent(context, live, signal, error, superseded);
        return;
      }
      if (cut?.aborted === true) {
        throw unavailable("the container's agent does not answer", error);
      }
      context.logger.debug({ err: error, container: live.id }, "a stop signal could not be sent yet");
      if (await exit.within(Math.min(retryPauseMs, leftMs), cut)) {
        return;
      }
    }
  }
}
