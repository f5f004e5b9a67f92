/** Refuses calls that a backend's driver does not support, in one place. */
import type { ConnectRouter } from "@connectrpc/connect";

import { ownValue } from "../../../common/own-value.ts";
import { notImplemented } from "../../../common/errors.ts";
import { ContainerService } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { ExecService } from "../../../gen/sockerless/backend/v1/exec_pb.ts";
import { ImageService } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import { NetworkService } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { VolumeService } from "../../../gen/sockerless/backend/v1/volume_pb.ts";
import type { Driver } from "../../driver/driver.ts";

type Capability = "attach" | "exec" | "imageLoad" | "imagePull" | "logs" | "networks" | "volumes";

/**
 * Required capabilities of methods, by service. Health checks are refused with containers' settings; `logs_follow`,
 * `agent_required` and `max_timeout_seconds` only inform clients.
 */
const needs: Readonly<Record<string, Readonly<Record<string, Capability>>>> = {
  [ContainerService.typeName]: { attachContainer: "attach", openLogs: "logs" },
  [ExecService.typeName]: { createExec: "exec" },
  [ImageService.typeName]: { pullImage: "imagePull", loadImage: "imageLoad" },
  [NetworkService.typeName]: { createNetwork: "networks" },
  [VolumeService.typeName]: { createVolume: "volumes" },
};

/** A router that answers unsupported methods with 501. */
export function capableRouter(
  router: ConnectRouter,
  { name, capabilities }: Pick<Driver, "name" | "capabilities">,
): ConnectRouter {
  const capable: ConnectRouter = {
    handlers: router.handlers,
    service: (service, implementation, options) => {
      const needed = Object.entries(ownValue(needs, service.typeName) ?? {});
      const refusals = needed
        .filter(([, capability]) => !capabilities[capability])
        .map(([method, capability]) => [
          method,
          () => {
            throw notImplemented(`the ${name} backend does not support ${capability}`);
          },
        ]);
      router.service(service, { ...implementation, ...Object.fromEntries(refusals) }, options);
      return capable;
    },
    rpc: (method, implementation, options) => {
      router.rpc(method, implementation, options);
      return capable;
    },
  };
  return capable;
}
