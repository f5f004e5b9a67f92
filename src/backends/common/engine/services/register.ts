/** All of the engine's services on one router; ImageService is the image store's. */
import type { ConnectRouter } from "@connectrpc/connect";

import { notImplemented } from "../../../../common/errors.ts";
import { version } from "../../../../common/version.ts";
import { ContainerService } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { EventsService } from "../../../../gen/sockerless/backend/v1/events_pb.ts";
import { ExecService } from "../../../../gen/sockerless/backend/v1/exec_pb.ts";
import type { RegistryAuth } from "../../../../gen/sockerless/backend/v1/image_pb.ts";
import { NetworkService } from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../../../gen/sockerless/backend/v1/system_pb.ts";
import { VolumeService } from "../../../../gen/sockerless/backend/v1/volume_pb.ts";
import type { Engine } from "../engine.ts";
import { diskUsageOf } from "../disk-usage.ts";
import { infoOf } from "../info.ts";
import { connectNetwork, disconnectNetwork } from "../network/connect-network.ts";
import { createNetwork, removeNetwork } from "../network/network-lifecycle.ts";
import { findNetwork, listNetworks, withMembers } from "../network/networks.ts";
import { pruneNetworks } from "../network/prune-networks.ts";
import { OneAtATime } from "../one-at-a-time.ts";
import { pruneVolumes } from "../operations/prune-volumes.ts";
import { ensureVolume, findVolume, listVolumes, removeVolume, volumeOf } from "../volumes.ts";
import { containerService } from "./container-service.ts";
import { eventsService } from "./events-service.ts";
import { execService } from "./exec-service.ts";

/** What the services need beside the engine. */
export interface ServiceOptions {
  /** Where the backend keeps its state, for `docker info`. */
  readonly stateDirectory: string;
  /** Checks credentials against their registry; undefined: this backend has no registry client. */
  readonly authenticate?: (
    auth: RegistryAuth | undefined,
    signal: AbortSignal,
  ) => Promise<{ readonly status: string; readonly identityToken: string }>;
}

/** Registers ContainerService, ExecService, NetworkService, VolumeService, SystemService and EventsService. */
export function registerServices(router: ConnectRouter, engine: Engine, options: ServiceOptions): void {
  const { context } = engine;
  const { state, driver } = context;
  const volumePrunes = new OneAtATime();
  const networkPrunes = new OneAtATime();
  router.service(ContainerService, containerService(context));
  router.service(ExecService, execService(context));
  router.service(EventsService, eventsService(context));
  router.service(NetworkService, {
    listNetworks: ({ filters }) => ({ networks: [...listNetworks(state, filters)] }),
    inspectNetwork: ({ network }) => ({ network: withMembers(state, findNetwork(state, network)) }),
    createNetwork: (request) => createNetwork(context, request),
    removeNetwork: async ({ network }) => {
      await removeNetwork(context, network);
      return {};
    },
    connectNetwork: async ({ network, container, endpoint }) => {
      await connectNetwork(context, network, container, endpoint);
      return {};
    },
    disconnectNetwork: async ({ network, container, force }) => {
      await disconnectNetwork(context, network, container, force);
      return {};
    },
    pruneNetworks: async ({ filters }, call) => ({
      removed: [...(await networkPrunes.run(() => pruneNetworks(context, filters, call.signal)))],
    }),
  });
  router.service(VolumeService, {
    createVolume: async ({ name, driver: volumeDriver, driverOpts, labels }) => {
      const wanted = { name, driver: volumeDriver, options: driverOpts, labels };
      return { volume: volumeOf(await ensureVolume(context, wanted)) };
    },
    listVolumes: ({ filters }) => ({ volumes: listVolumes(state, filters).map(volumeOf) }),
    inspectVolume: ({ name }) => ({ volume: volumeOf(findVolume(state, name)) }),
    removeVolume: async ({ name, force }) => {
      await removeVolume(context, name, force);
      return {};
    },
    pruneVolumes: async ({ filters }, call) => {
      const { removed, spaceReclaimed } = await volumePrunes.run(() =>
        pruneVolumes(context, filters, call.signal),
      );
      return { removed: [...removed], spaceReclaimed };
    },
  });
  router.service(SystemService, {
    getCapabilities: () => ({ backend: driver.name, version, capabilities: driver.capabilities }),
    getDiskUsage: ({ types }) => diskUsageOf(context, types),
    getInfo: () => infoOf(context, options.stateDirectory),
    authenticate: async ({ auth }, call) => {
      if (options.authenticate === undefined) {
        throw notImplemented(`the ${driver.name} backend does not support registry logins`);
      }
      return await options.authenticate(auth, call.signal);
    },
  });
}
