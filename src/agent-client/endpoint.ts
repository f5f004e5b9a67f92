/** The endpoint of a backend's answer: how an agent is reached, as it is written and read. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { AgentAddress, AgentWay } from "./address.ts";
import { systemError } from "../common/errors.ts";
import type { AgentEndpoint, AgentEndpointSchema } from "../gen/sockerless/backend/v1/endpoint_pb.ts";

/** The part of an endpoint that says how the agent is reached. */
type Place = Pick<
  Exclude<MessageInitShape<typeof AgentEndpointSchema>, AgentEndpoint>,
  "address" | "agentPin"
>;

/** An agent that the frontend dials itself. */
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

/** An agent that the frontend reaches by the backend alone. */
export const relayedPlace: Place = { address: { case: "relay", value: {} } };

/**
 * The way to the agent that an endpoint names.
 *
 * @param relay the way to the backend that relays
 * @throws system: it names no address
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
