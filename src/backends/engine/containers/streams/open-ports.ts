/** Provides a publishing frontend with the ports to listen on, and with the agent that tunnels their traffic. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { conflict } from "../../../../common/errors.ts";
import type { AgentAccess } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import {
  type DescribePortsResponse,
  DescribePortsResponseSchema,
  type InnerSocket,
  InnerSocketSchema,
  type OpenTunnelResponseSchema,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { endpointFor } from "../agent/agent-endpoint.ts";
import type { EngineContext } from "../../context.ts";
import { findContainer } from "../decisions/lookup.ts";
import { dockerSocketsOf } from "../../../model/docker-socket.ts";
import { wantedPorts } from "../../../model/ports.ts";
import { creatorOf } from "../../../model/inner-socket-labels.ts";
import { configOf, hasProcess } from "../../../model/records.ts";

/** Stands for the address of the container's interface, in requests to its agent. */
const interfaceAddress = "0.0.0.0";

/** A container's published ports. @throws not-found; invalid: a malformed port */
export function describePorts(context: EngineContext, reference: string): DescribePortsResponse {
  const record = findContainer(context.state, reference);
  const containerId = record.id;
  if (context.driver.ports.listener !== "frontend") {
    return create(DescribePortsResponseSchema, { containerId });
  }
  return create(DescribePortsResponseSchema, {
    containerId,
    byFrontend: true,
    active: record.phase === Phase.STARTING || hasProcess(record),
    wanted: wantedPorts(record),
    published: record.publishedPorts,
    name: record.name,
    sockets: innerSockets(context, record),
    creator: creatorOf(configOf(record).labels) ?? "",
  });
}

/** The Docker sockets inside a container. */
function innerSockets({ driver }: EngineContext, record: ContainerRecord): InnerSocket[] {
  const { hostPaths } = driver;
  if (hostPaths.kind !== "ignored" || hostPaths.dockerSocket === "off") {
    return [];
  }
  const full = hostPaths.dockerSocket === "full";
  return dockerSocketsOf(record).map((path) => create(InnerSocketSchema, { path, full }));
}

/**
 * Endpoint of the agent that tunnels to a container's ports, and the container's address for requests to it.
 *
 * @throws not-found; conflict: it does not run
 */
export async function openTunnel(
  context: EngineContext,
  reference: string,
  access: AgentAccess | undefined,
): Promise<MessageInitShape<typeof OpenTunnelResponseSchema>> {
  const record = findContainer(context.state, reference);
  const link = context.live.peek(record.id)?.link;
  if (link === undefined) {
    throw conflict(`container ${record.id} is not running`);
  }
  const isVirtual = context.driver.networks.endpointAddresses === "virtual";
  const own = Object.values(record.endpoints).find(({ ipAddress }) => ipAddress !== "");
  return {
    endpoint: await endpointFor(context, record.id, link.address, access),
    host: record.reachableAddress || (isVirtual ? interfaceAddress : (own?.ipAddress ?? "")),
  };
}
