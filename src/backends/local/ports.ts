import { create } from "@bufbuild/protobuf";
import { type PublishedPort, PublishedPortSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { wantedPorts } from "../common/engine/ports.ts";

/**
 * The ports that a container's shim listens on.
 *
 * @param containerIp where the shim forwards to
 */
export function publishedPorts(record: ContainerRecord, containerIp: string): PublishedPort[] {
  return wantedPorts(record).map(({ containerPort, protocol, hostIp, hostPort, hostPortEnd }) =>
    create(PublishedPortSchema, {
      protocol,
      hostIp,
      hostPort,
      hostPortEnd,
      containerPort,
      containerIp,
    }),
  );
}
