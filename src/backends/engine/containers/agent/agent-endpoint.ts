/** Finds the agent that serves a container, and its address for a frontend or this process. */
import { create } from "@bufbuild/protobuf";

import { type AgentAddress, type AgentTarget, describeAddress } from "../../../../agent-client/address.ts";
import { directPlace, relayedPlace } from "../../../../agent-client/endpoint.ts";
import type { AgentClientOptions } from "../../../../agent-client/client.ts";
import {
  type AgentAccess,
  type AgentEndpoint,
  AgentEndpointSchema,
  AgentReach,
} from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type { EngineContext } from "../../context.ts";
import { isRemoved } from "../../../model/records.ts";

/**
 * Address of the agent that serves an existing container now: its own agent while it starts or runs, else the one of
 * stored containers.
 *
 * @param containerId full ID
 */
export function servingAddressOf(context: EngineContext, containerId: string): AgentAddress {
  return context.live.peek(containerId)?.link?.address ?? context.driver.workloads.stored(containerId);
}

/** Like {@link servingAddressOf}; undefined if there is no such container. */
export function agentAddressOf(context: EngineContext, containerId: string): AgentAddress | undefined {
  const record = context.state.containers.get(containerId);
  return record === undefined || isRemoved(record) ? undefined : servingAddressOf(context, containerId);
}

/** ID and credentials that this process presents when it dials the agent of a container. */
export function agentOptions(
  { driver: { authority } }: Pick<EngineContext, "driver">,
  containerId: string,
): AgentClientOptions {
  return {
    containerId,
    credentials: () => authority.credentialsFor(containerId),
  };
}

/** Dialling parameters of a container's agent, by {@link agentAddressOf}. */
export function agentTargetOf(context: EngineContext, containerId: string): AgentTarget | undefined {
  const address = agentAddressOf(context, containerId);
  return address === undefined ? undefined : { address, ...agentOptions(context, containerId) };
}

/**
 * Endpoint of an agent for a frontend: the agent's address if the frontend can dial it, else the relay.
 *
 * @throws invalid: the frontend's key is malformed
 */
export async function endpointFor(
  { driver: { authority }, live }: Pick<EngineContext, "driver" | "live">,
  containerId: string,
  address: AgentAddress,
  access: AgentAccess | undefined,
): Promise<AgentEndpoint> {
  const link = live.peek(containerId)?.link;
  const generation = link !== undefined && isSameAddress(link.address, address) ? link.generation : 0n;
  const reach = access?.reach ?? AgentReach.RELAY;
  const publicKey = access?.clientPublicKey ?? new Uint8Array();
  const endpoint = { containerId, generation };
  switch (address.kind) {
    case "unix":
      return create(AgentEndpointSchema, {
        ...endpoint,
        ...(reach === AgentReach.LOCAL ? directPlace(address) : relayedPlace),
      });
    case "tcp":
    case "called":
      return create(AgentEndpointSchema, {
        ...endpoint,
        ...(reach >= reachFor(address) && publicKey.length > 0
          ? {
              ...directPlace(address),
              clientCertificates: [...(await authority.certify(containerId, publicKey))],
            }
          : relayedPlace),
      });
  }
}

/** Required reach of a frontend for an agent that asks for a certificate. */
function reachFor({ kind }: AgentAddress): AgentReach {
  return kind === "tcp" ? AgentReach.NETWORK : AgentReach.LOCAL;
}

function isSameAddress(one: AgentAddress, other: AgentAddress): boolean {
  return describeAddress(one) === describeAddress(other);
}
