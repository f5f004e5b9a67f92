/** The processes of a container. */
import type { TopResponse } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { EngineContext } from "../context.ts";
import { containerEvent } from "../events/container-events.ts";
import { topRefusal } from "../machine/refusals.ts";
import { askAgent } from "./running-agent.ts";
import { containerOnceStarted } from "./start-under-way.ts";

/**
 * Lists a container's processes as `ps` does.
 *
 * @param psArgs arguments of ps; empty: `-ef`
 * @param left the client has left
 * @throws not-found; conflict: it does not run; system: what ps says of its arguments
 */
export async function topContainer(
  context: EngineContext,
  reference: string,
  psArgs: string,
  left: AbortSignal,
): Promise<TopResponse> {
  const record = await containerOnceStarted(context, reference, left);
  const refusal = topRefusal(record);
  if (refusal !== undefined) {
    throw refusal;
  }
  const table = await askAgent(context.live.of(record.id), (agent, options) =>
    agent.top({ psArgs }, options),
  );
  await context.state.commit((change) => change.event(containerEvent(record, "top")));
  return table;
}
