import type { ConnectRouter } from "@connectrpc/connect";
import { notFound } from "../../common/errors.ts";
import { onAbort } from "../../common/on-abort.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { ContainerService } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { EventsService } from "../../gen/sockerless/backend/v1/events_pb.ts";
import { ExecService } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { ImageService } from "../../gen/sockerless/backend/v1/image_pb.ts";
import { NetworkService } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { VolumeService } from "../../gen/sockerless/backend/v1/volume_pb.ts";

/** Full names of the served services; "" is the process as a whole. */
const servedNames = new Set([
  "",
  ...[
    ContainerService,
    EventsService,
    ExecService,
    ImageService,
    NetworkService,
    SystemService,
    VolumeService,
  ].map((service) => service.typeName),
]);

/** `grpc.health.v1`: a backend that answers is serving, since it only listens once it is ready. */
export function registerHealth(router: ConnectRouter): void {
  router.service(Health, {
    check({ service }) {
      if (!servedNames.has(service)) {
        throw notFound(`unknown service ${service}`);
      }
      return { status: Status.SERVING };
    },
    async *watch({ service }, context) {
      yield { status: servedNames.has(service) ? Status.SERVING : Status.SERVICE_UNKNOWN };
      await new Promise<void>((resolve) => onAbort(context.signal, resolve));
    },
  });
}
