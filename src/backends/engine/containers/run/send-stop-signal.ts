/** The signal at which a container is to end in its own time. */
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
 * Sends the signal at which a container is to end in its own time. Where the driver can end runs past their agents, an
 * agent that cannot be reached is tried again as long as the container may take to end: a task that is stopped has less
 * time.
 *
 * @param signal written down
 * @param exit of its run, listened for since before
 * @param graceMs undefined: for ever
 * @param left the client has left: nobody waits any more for what may last for ever
 * @throws unavailable: the client has left while the agent was away
 */
export async function sendStopSignal(
  context: EngineContext,
  live: LiveContainer,
  signal: NotedSignal,
  exit: ExitListener,
  graceMs: number | undefined,
  left: AbortSignal,
): Promise<void> {
  const deadlineMs = context.clock.nowMs() + (graceMs ?? Number.POSITIVE_INFINITY);
  const cut = graceMs === undefined ? left : undefined;
  const clientToken = newId();
  for (;;) {
    try {
      await sendSignal(context, live, signal, clientToken);
      return;
    } catch (error) {
      const leftMs = deadlineMs - context.clock.nowMs();
      if (!isAway(error) || context.driver.silentAgents.kind === "gone" || leftMs <= 0) {
        await endPastAgent(context, live, signal, error);
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
