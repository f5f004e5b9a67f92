/** Networks that only hold settings (`--config-only`), and those created from them (`--config-from`). */
import { forbidden, notFound } from "../../../../common/errors.ts";
import type { CreateNetworkRequest, Network } from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import type { State } from "../../../state/state.ts";
import { isMade } from "./networks.ts";

/** Refuses settings that either kind of network cannot have. @throws forbidden */
export function validateConfiguration(request: CreateNetworkRequest): void {
  const { configOnly, configFrom } = request;
  if (configOnly && (request.ingress || request.internal || request.attachable || request.scope !== "")) {
    throw forbidden(
      "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
    );
  }
  if (configFrom === "") {
    return;
  }
  if (configOnly) {
    throw forbidden("a configuration network cannot depend on another configuration network");
  }
  if (
    (request.ipamDriver !== "" && request.ipamDriver !== "default") ||
    request.enableIpv4 === false ||
    request.enableIpv6 ||
    Object.keys(request.labels).length > 0 ||
    Object.keys(request.ipamOptions).length > 0 ||
    request.pools.length > 0
  ) {
    throw forbidden(
      "user specified configurations are not supported if the network depends on a configuration network",
    );
  }
  if (Object.keys(request.options).length > 0) {
    throw forbidden(
      "network driver options are not supported if the network depends on a configuration network",
    );
  }
}

/** A request completed with the settings of its source network. @throws not-found */
export function withConfiguration(state: State, request: CreateNetworkRequest): CreateNetworkRequest {
  const { configFrom } = request;
  if (configFrom === "") {
    return request;
  }
  // By name alone, as in Docker.
  const record = state.networks.named(configFrom);
  if (record === undefined || !isMade(record) || !record.network.configOnly) {
    throw notFound(`configuration network ${JSON.stringify(configFrom)} does not exist`);
  }
  const source = record.network;
  return {
    ...request,
    enableIpv4: !source.ipv4Disabled,
    enableIpv6: source.enableIpv6,
    ipamDriver: source.ipamDriver,
    ipamOptions: source.ipamOptions,
    pools: source.pools,
    options: source.options,
    labels: source.labels,
  };
}

/** Whether there is a network that was created from this one. */
export function isConfigurationInUse(state: State, { name, configOnly }: Network): boolean {
  return configOnly && state.networks.configuredFrom(name).length > 0;
}
