/** Registers all services of the engine on one router; ImageService belongs to the images. */
import type { ConnectRouter } from "@connectrpc/connect";

import { ContainerService } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { EventsService } from "../../../gen/sockerless/backend/v1/events_pb.ts";
import { ExecService } from "../../../gen/sockerless/backend/v1/exec_pb.ts";
import { NetworkService } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../../gen/sockerless/backend/v1/system_pb.ts";
import { VolumeService } from "../../../gen/sockerless/backend/v1/volume_pb.ts";
import type { Engine } from "../engine.ts";
import { containerService } from "./container-service.ts";
import { eventsService } from "./events-service.ts";
import { execService } from "./exec-service.ts";
import { networkService } from "./network-service.ts";
import { type ServiceOptions, systemService } from "./system-service.ts";
import { volumeService } from "./volume-service.ts";

/** Registers ContainerService, ExecService, NetworkService, VolumeService, SystemService and EventsService. */
export function registerServices(router: ConnectRouter, { context }: Engine, options: ServiceOptions): void {
  router.service(ContainerService, containerService(context));
  router.service(ExecService, execService(context));
  router.service(EventsService, eventsService(context));
  router.service(NetworkService, networkService(context));
  router.service(VolumeService, volumeService(context));
  router.service(SystemService, systemService(context, options));
}
