/** Which agent serves a container, and how a frontend or this process reaches it. */
import { create } from "@bufbuild/protobuf";

import type { AgentTarget } from "../../../agent-client/address.ts";
import type { AgentClientOptions } from "../../../agent-client/client.ts";
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
 * Where the agent of a container that exists answers now: its own while it starts or runs, else the one of stored
 * containers.
 *
 * @param containerId full ID
 */
export function servingAddressOf(context: EngineContext, containerId: string): AgentAddress {
  return context.live.peek(containerId)?.link?.address ?? context.driver.workloads.stored(containerId);
}

/** As {@link servingAddressOf}; undefined where there is no such container. */
export function agentAddressOf(context: EngineContext, containerId: string): AgentAddress | undefined {
  const record = context.state.containers.get(containerId);
  return record === undefined || isRemoved(record) ? undefined : servingAddressOf(context, containerId);
}

/** What this process says and shows when it dials the agent of a container. */
export function agentOptions(
  { driver: { authority } }: Pick<EngineContext, "driver">,
  containerId: string,
): AgentClientOptions {
  return {
    containerId,
    ...(authority === undefined ? {} : { credentials: () => authority.credentialsFor(containerId) }),
  };
}

/** How the agent of a container is dialled now, as {@link agentAddressOf}. */
export function agentTargetOf(context: EngineContext, containerId: string): AgentTarget | undefined {
  const address = agentAddressOf(context, containerId);
  return address === undefined ? undefined : { address, ...agentOptions(context, containerId) };
}

/**
 * An address as the frontend is told it: itself where it can dial it, else the relay.
 *
 * @throws invalid: the frontend's key is none
 */
export async function endpointFor(
  { driver: { authority } }: Pick<EngineContext, "driver">,
  containerId: string,
  address: AgentAddress,
  access: AgentAccess | undefined,
): Promise<AgentEndpoint> {
  const reach = access?.reach ?? AgentReach.RELAY;
  if (address.kind === "unix" && reach === AgentReach.LOCAL) {
    return create(AgentEndpointSchema, {
      address: { case: "unixPath", value: address.path },
      containerId,
    });
  }
  const publicKey = access?.clientPublicKey ?? new Uint8Array();
  if (
    address.kind === "tcp" &&
    reach >= AgentReach.NETWORK &&
    publicKey.length > 0 &&
    authority !== undefined
  ) {
    return create(AgentEndpointSchema, {
      address: { case: "tcp", value: { host: address.host, port: address.port } },
      containerId,
      agentPin: address.pin,
      clientCertificates: [...(await authority.certify(containerId, publicKey))],
    });
  }
  return create(AgentEndpointSchema, { address: { case: "relay", value: {} }, containerId });
}
