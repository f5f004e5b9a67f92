/** Lists a container's processes. */
import type { TopResponse } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { atServingAgent } from "../agent/leaving-agents.ts";
import { findContainer } from "../decisions/lookup.ts";
import { topRefusal } from "../decisions/life/refusals.ts";
import { callAgent } from "../agent/running-agent.ts";
import { containerOnceStarted } from "../start/start-under-way.ts";

/**
 * Lists a container's processes as `ps` does.
 *
 * @param psArgs arguments of `ps`; default `-ef`
 * @param left the client has left
 * @throws not-found; conflict: it does not run; system: ps's error about its arguments
 */
export async function topContainer(
  context: EngineContext,
  reference: string,
  psArgs: string,
  left: AbortSignal,
): Promise<TopResponse> {
  const { id } = findContainer(context.state, reference);
  return await atServingAgent(context, id, left, async () => {
    const record = await containerOnceStarted(context, reference, left);
    const refusal = topRefusal(record);
    if (refusal !== undefined) {
      throw refusal;
    }
    const table = await callAgent(context.live.of(id), (agent, options) => agent.top({ psArgs }, options));
    await context.state.commit((change) => change.event(containerEvent(record, "top")));
    return table;
  });
}
