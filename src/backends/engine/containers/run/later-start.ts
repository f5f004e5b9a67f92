/** Later starts than the state knows, as after the restore of a backup. */
import { withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { agentOptions } from "../agent/agent-endpoint.ts";
import { runningContainer } from "../decisions/lookup.ts";
import { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { watchContainer } from "./watch-container.ts";

/**
 * Counts a later start that a running container's agent serves as the container's, if there is one: the agent refuses what is
 * meant for an earlier one.
 */
export async function takeLaterStart(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
): Promise<void> {
  const generation = await context.driver.seals.laterStart(live.id);
  await live.lock.run(async () => {
    const record = runningContainer(context.state, live.id, link.generation);
    if (generation === undefined || record === undefined || live.link !== link) {
      return;
    }
    context.logger.warn(
      { container: live.id },
      "a container runs that was started again since the state knew it",
    );
    const next = withFields(record, { generation });
    await context.state.commit((change) => change.containers.put(next), "happened");
    const met = new AgentLink(link.address, generation, agentOptions(context, live.id));
    live.run.meet(met);
    watchContainer(context, live, met);
  });
}
