/** Resolves the source of a container's resource usage (`docker stats`). */
import type { AgentAccess, AgentEndpoint } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import { agentAddressOf, endpointFor } from "../agent/agent-endpoint.ts";
import type { EngineContext } from "../../context.ts";
import { findContainer } from "../decisions/lookup.ts";
import { hasProcess } from "../../../model/records.ts";

/** Endpoint for reading a container's resource usage, with the container's ID and name. */
export interface OpenedStats {
  /** Absent if it does not run. */
  readonly endpoint?: AgentEndpoint;
  readonly id: string;
  /** With leading slash. */
  readonly name: string;
}

/** Resolves the source of a container's resource usage. @throws not-found */
export async function openStats(
  context: EngineContext,
  reference: string,
  access: AgentAccess | undefined,
): Promise<OpenedStats> {
  const record = findContainer(context.state, reference);
  const opened = { id: record.id, name: `/${record.name}` };
  const address = hasProcess(record) ? agentAddressOf(context, record.id) : undefined;
  return address === undefined
    ? opened
    : { ...opened, endpoint: await endpointFor(context, record.id, address, access) };
}
