/** Calls that a backend's driver is not capable of are refused, in one place. */
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
 * The methods that need a capability, by service. Health checks are settings of containers, and refused with these;
 * `logs_follow`, `agent_required` and `max_timeout_seconds` tell clients of the backend.
 */
const needs: Readonly<Record<string, Readonly<Record<string, Capability>>>> = {
  [ContainerService.typeName]: { attachContainer: "attach", openLogs: "logs" },
  [ExecService.typeName]: { createExec: "exec" },
  [ImageService.typeName]: { pullImage: "imagePull", loadImage: "imageLoad" },
  [NetworkService.typeName]: { createNetwork: "networks" },
  [VolumeService.typeName]: { createVolume: "volumes" },
};

/** A router that registers services without what the driver is not capable of: that is answered with 501. */
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
