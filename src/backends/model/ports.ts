/** Published and exposed ports. */
import { create } from "@bufbuild/protobuf";

import { invalid } from "../../common/errors.ts";
import type { PortBinding } from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type PortMapping,
  PortMappingSchema,
  type WantedPort,
  WantedPortSchema,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BoundPort } from "../driver/launches.ts";
import { configOf, hostConfigOf } from "./records.ts";

/** A port of a container: `80/tcp`. */
export interface ContainerPort {
  readonly port: number;
  readonly protocol: "tcp" | "udp" | "sctp";
}

/** A first and a last port. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/**
 * Parses a port such as `80`, `80/tcp` or `53/UDP`.
 *
 * @throws invalid
 */
export function parseContainerPort(text: string): ContainerPort {
  const port = containerPort(text);
  if (port === undefined) {
    const [number = ""] = text.split("/");
    throw invalid(`invalid port specification: ${JSON.stringify(portNumber(number) ? text : number)}`);
  }
  return port;
}

/** Like {@link parseContainerPort}, but undefined for an invalid port, as images may expose anything. */
function containerPort(text: string): ContainerPort | undefined {
  const slash = text.indexOf("/");
  const port = portNumber(slash === -1 ? text : text.slice(0, slash));
  const protocol = slash === -1 ? "tcp" : text.slice(slash + 1).toLowerCase();
  const isKnown = protocol === "tcp" || protocol === "udp" || protocol === "sctp";
  return port === undefined || port === 0 || !isKnown ? undefined : { port, protocol };
}

/** @returns a range `8000-8010`, or a single port as a range of one; undefined for anything else */
export function parsePortRange(text: string): PortRange | undefined {
  const dash = text.indexOf("-");
  const first = portNumber(dash === -1 ? text : text.slice(0, dash));
  const last = dash === -1 ? first : portNumber(text.slice(dash + 1));
  return first === undefined || last === undefined || last < first ? undefined : { first, last };
}

/** Rejects port bindings without a valid port. @throws invalid */
export function validatePortBindings(bindings: readonly PortBinding[]): void {
  for (const binding of bindings) {
    parseContainerPort(binding.containerPort);
    if (!binding.noHostBinding && binding.hostPort !== "" && parsePortRange(binding.hostPort) === undefined) {
      throw invalid(`invalid port specification: ${JSON.stringify(binding.hostPort)}`);
    }
  }
}

/** A running container's ports for `docker ps`: the bound ones, and those only exposed. */
export function portMappings(
  bound: readonly BoundPort[],
  exposed: readonly string[],
  bindings: readonly PortBinding[],
): PortMapping[] {
  const mappings = bound.map((port) =>
    create(PortMappingSchema, {
      ip: port.hostIp,
      privatePort: port.containerPort,
      publicPort: port.hostPort,
      type: port.protocol,
    }),
  );
  const shown = new Set(bound.map((port) => `${port.containerPort}/${port.protocol}`));
  for (const text of [...exposed, ...bindings.map((binding) => binding.containerPort)]) {
    const port = containerPort(text);
    if (port !== undefined && !shown.has(`${port.port}/${port.protocol}`)) {
      shown.add(`${port.port}/${port.protocol}`);
      mappings.push(create(PortMappingSchema, { privatePort: port.port, type: port.protocol }));
    }
  }
  return mappings;
}

/**
 * The ports that a container publishes: those of `-p`, and for `-P` every exposed port not named by `-p`. SCTP is left
 * out, as only TCP and UDP are forwarded.
 *
 * @throws invalid
 */
export function wantedPorts(record: ContainerRecord): WantedPort[] {
  const bound = hostConfigOf(record).portBindings.filter((binding) => !binding.noHostBinding);
  return [
    ...bound.map(({ containerPort, hostIp, hostPort }) => wantedPort(containerPort, hostIp, hostPort)),
    ...exposedToAll(record).map((exposed) => wantedPort(exposed, "", "")),
  ].filter(({ protocol }) => protocol !== "sctp");
}

/**
 * SCTP ports that a container asks to publish, which is not supported: `named` by `-p`, and `exposed` for the others of
 * `-P`.
 */
export function unpublishedPorts(record: ContainerRecord): {
  readonly named: readonly string[];
  readonly exposed: readonly string[];
} {
  const isSctp = (text: string): boolean => containerPort(text)?.protocol === "sctp";
  const bound = hostConfigOf(record).portBindings.filter((binding) => !binding.noHostBinding);
  return {
    named: bound.map((binding) => binding.containerPort).filter(isSctp),
    exposed: exposedToAll(record).filter(isSctp),
  };
}

/** With `-P`: the exposed ports not named by `-p`. */
function exposedToAll(record: ContainerRecord): readonly string[] {
  const { portBindings, publishAllPorts } = hostConfigOf(record);
  const named = new Set(portBindings.map((binding) => binding.containerPort));
  return publishAllPorts ? configOf(record).exposedPorts.filter((exposed) => !named.has(exposed)) : [];
}

function wantedPort(containerPort: string, hostIp: string, hostPort: string): WantedPort {
  const { port, protocol } = parseContainerPort(containerPort);
  const range = parsePortRange(hostPort === "" ? "0" : hostPort);
  if (range === undefined) {
    throw invalid(`invalid port specification: ${JSON.stringify(hostPort)}`);
  }
  return create(WantedPortSchema, {
    containerPort: port,
    protocol,
    hostIp,
    hostPort: range.first,
    hostPortEnd: range.last === range.first ? 0 : range.last,
  });
}

/** Converts mappings of published ports to the input of {@link portMappings}. */
export function boundPortsOf(mappings: readonly PortMapping[]): BoundPort[] {
  return mappings
    .filter(({ publicPort }) => publicPort !== 0)
    .map(({ ip, privatePort, publicPort, type }) => ({
      protocol: type as BoundPort["protocol"],
      hostIp: ip,
      hostPort: publicPort,
      containerPort: privatePort,
    }));
}

function portNumber(text: string): number | undefined {
  if (!/^\d{1,5}$/.test(text)) {
    return undefined;
  }
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}
