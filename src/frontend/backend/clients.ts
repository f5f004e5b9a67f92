/** One client per service of the backend. */
import { createClient, type Client, type Transport } from "@connectrpc/connect";

import { ContainerService } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { EventsService } from "../../gen/sockerless/backend/v1/events_pb.ts";
import { ExecService } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { ImageService } from "../../gen/sockerless/backend/v1/image_pb.ts";
import { NetworkService } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { VolumeService } from "../../gen/sockerless/backend/v1/volume_pb.ts";

/** The services of a backend. Calls fail with `ConnectError`s, which `fromUnknown` understands. */
export interface BackendClients {
  readonly containers: Client<typeof ContainerService>;
  readonly execs: Client<typeof ExecService>;
  readonly images: Client<typeof ImageService>;
  readonly networks: Client<typeof NetworkService>;
  readonly volumes: Client<typeof VolumeService>;
  readonly system: Client<typeof SystemService>;
  readonly events: Client<typeof EventsService>;
}

/** Clients of all services over one transport; tests pass `createRouterTransport`. */
export function createBackendClients(transport: Transport): BackendClients {
  return {
    containers: createClient(ContainerService, transport),
    execs: createClient(ExecService, transport),
    images: createClient(ImageService, transport),
    networks: createClient(NetworkService, transport),
    volumes: createClient(VolumeService, transport),
    system: createClient(SystemService, transport),
    events: createClient(EventsService, transport),
  };
}
