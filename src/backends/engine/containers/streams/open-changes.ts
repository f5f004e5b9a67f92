/** Opens a container's changes for `docker diff` and `docker export`. */
import { conflict } from "../../../../common/errors.ts";
import type { AgentAccess, AgentEndpoint } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import { endpointFor, servingAddressOf } from "../agent/agent-endpoint.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { findContainer } from "../decisions/lookup.ts";

/**
 * Resolves the agent that knows a container's changes.
 *
 * @param isExport whether its whole file system is exported, which emits an event
 * @throws not-found; conflict: it is being removed
 */
export async function openChanges(
  context: EngineContext,
  reference: string,
  access: AgentAccess | undefined,
  isExport: boolean,
): Promise<AgentEndpoint> {
  const record = findContainer(context.state, reference);
  if (context.live.peek(record.id)?.run.isRemoving === true) {
    throw conflict(`You cannot export container ${record.id} which is being removed`);
  }
  const address = servingAddressOf(context, record.id);
  if (isExport) {
    await context.state.commit((change) => change.event(containerEvent(record, "export")));
  }
  return endpointFor(context, record.id, address, access);
}
