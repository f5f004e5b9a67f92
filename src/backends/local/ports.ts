import { create } from "@bufbuild/protobuf";
import { type PublishedPort, PublishedPortSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { invalid } from "../../common/errors.ts";

/**
 * The ports that a container's shim listens on: what `-p` says, and for `-P`
 * every exposed port that `-p` does not name.
 *
 * @param containerIp where the shim forwards to
 */
export function publishedPorts(record: ContainerRecord, containerIp: string): PublishedPort[] {
  const bindings = record.hostConfig?.portBindings ?? [];
  const ports = bindings
    .filter((binding) => !binding.noHostBinding)
    .map((binding) => publish(binding.containerPort, binding.hostIp, binding.hostPort, containerIp));
  if (record.hostConfig?.publishAllPorts === true) {
    const named = new Set(bindings.map((binding) => binding.containerPort));
    for (const exposed of record.config?.exposedPorts ?? []) {
      if (!named.has(exposed)) {
        ports.push(publish(exposed, "", "", containerIp));
      }
    }
  }
  return ports;
}

function publish(
  containerPort: string,
  hostIp: string,
  hostPort: string,
  containerIp: string,
): PublishedPort {
  const [port = "", protocol = "tcp"] = containerPort.split("/");
  const [first = "", last = ""] = hostPort.split("-");
  return create(PublishedPortSchema, {
    protocol,
    hostIp,
    hostPort: numberOf(first),
    hostPortEnd: numberOf(last),
    containerPort: numberOf(port),
    containerIp,
  });
}

function numberOf(text: string): number {
  const port = text === "" ? 0 : Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw invalid(`invalid port specification: "${text}"`);
  }
  return port;
}
