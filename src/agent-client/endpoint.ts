/** Converts the address of an agent to and from the endpoint in a backend's answer. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AgentAddress, AgentWay } from "./address.ts";
import { systemError } from "../common/errors.ts";
import type { AgentEndpoint, AgentEndpointSchema } from "../gen/sockerless/backend/v1/endpoint_pb.ts";

/** The part of an endpoint that holds the agent's address. */
type Place = Pick<
  Exclude<MessageInitShape<typeof AgentEndpointSchema>, AgentEndpoint>,
  "address" | "agentPin"
>;

/** The address of an agent that the frontend dials itself. */
export function directPlace(address: AgentAddress): Place {
  switch (address.kind) {
    case "unix":
      return { address: { case: "unixPath", value: address.path } };
    case "tcp": {
      const { host, port, pin } = address;
      return { address: { case: "tcp", value: { host, port } }, agentPin: pin };
    }
    case "called":
      return { address: { case: "called", value: { unixPath: address.path } }, agentPin: address.pin };
  }
}

/** An agent that the frontend reaches only through the backend. */
export const relayedPlace: Place = { address: { case: "relay", value: {} } };

/**
 * The address of an endpoint's agent.
 *
 * @param relay the address of the relaying backend
 * @throws system if the endpoint has no address
 */
export function wayTo(endpoint: AgentEndpoint | undefined, relay: AgentWay): AgentWay {
  switch (endpoint?.address.case) {
    case "unixPath":
      return { kind: "unix", path: endpoint.address.value };
    case "tcp": {
      const { host, port } = endpoint.address.value;
      return { kind: "tcp", host, port, pin: endpoint.agentPin };
    }
    case "called":
      return { kind: "called", path: endpoint.address.value.unixPath, pin: endpoint.agentPin };
    case "relay":
      return relay;
    default:
      throw systemError("the backend answered an endpoint without an address");
  }
}
