/** Resizes a container's terminal. */
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { atServingAgent } from "../agent/leaving-agents.ts";
import { findContainer } from "../decisions/lookup.ts";
import { processRefusal } from "../decisions/life/refusals.ts";
import { callAgent } from "../agent/running-agent.ts";
import { containerOnceStarted } from "../start/start-under-way.ts";

/**
 * Sets the size of a container's terminal.
 *
 * @param height in rows
 * @param width in columns
 * @param left the client has left
 * @throws not-found; conflict: it does not run; unavailable: its agent cannot be reached
 */
export async function resizeContainer(
  context: EngineContext,
  reference: string,
  height: number,
  width: number,
  left: AbortSignal,
): Promise<void> {
  const { id } = findContainer(context.state, reference);
  await atServingAgent(context, id, left, async () => {
    const record = await containerOnceStarted(context, reference, left);
    const refusal = processRefusal(record);
    if (refusal !== undefined) {
      throw refusal;
    }
    await callAgent(context.live.of(id), (agent, options) =>
      agent.resize({ size: { height, width } }, options),
    );
    await context.state.commit((change) =>
      change.event(containerEvent(record, "resize", { height: String(height), width: String(width) })),
    );
  });
}
