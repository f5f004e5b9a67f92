/** Which agent serves a container, and how a frontend reaches it. */
import { create } from "@bufbuild/protobuf";

import {
  type AgentAccess,
  type AgentEndpoint,
  AgentEndpointSchema,
  AgentReach,
} from "../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { AgentAddress } from "../driver.ts";
import type { EngineContext } from "./context.ts";
import { isRemoved } from "./records.ts";

/**
 * Where the agent of a container answers now: its own while it starts or runs, else the one of stored containers.
 *
 * @param containerId full ID
 * @returns undefined where there is no such container
 */
export function agentAddressOf(context: EngineContext, containerId: string): AgentAddress | undefined {
  const record = context.state.containers.get(containerId);
  if (record === undefined || isRemoved(record)) {
    return undefined;
  }
  return context.live.peek(containerId)?.link?.address ?? context.driver.workloads.stored(containerId);
}

/** An address as the frontend is told it: itself where it can dial it, else the relay. */
export function endpointFor(
  containerId: string,
  address: AgentAddress,
  access: AgentAccess | undefined,
): AgentEndpoint {
  if (address.kind === "unix" && access?.reach === AgentReach.LOCAL) {
    return create(AgentEndpointSchema, {
      address: { case: "unixPath", value: address.path },
      containerId,
    });
  }
  // An agent on TCP wants a certificate of this instance's own authority, which the relay has.
  return create(AgentEndpointSchema, { address: { case: "relay", value: {} }, containerId });
}
