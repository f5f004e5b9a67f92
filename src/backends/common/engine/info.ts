/** What `docker info` and `docker version` tell. */
import { create } from "@bufbuild/protobuf";

import { version } from "../../../common/version.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { type GetInfoResponse, GetInfoResponseSchema } from "../../../gen/sockerless/backend/v1/system_pb.ts";
import type { EngineContext } from "./context.ts";
import { logDrivers } from "../logging/log-options.ts";
import { toldPools } from "./network/address-pools.ts";
import { builtinNetworks } from "./network/networks.ts";
import { isVisible, stateOf, timestampOfNs } from "./records.ts";

/** The backend as a whole. @param rootDirectory where it keeps its state */
export async function infoOf(context: EngineContext, rootDirectory: string): Promise<GetInfoResponse> {
  const { driver, state } = context;
  const facts = await driver.machine.facts();
  const counts = { running: 0, paused: 0, stopped: 0 };
  for (const record of state.containers.values()) {
    if (isVisible(record)) {
      counts[countedAs(stateOf(record).status)] += 1;
    }
  }
  return create(GetInfoResponseSchema, {
    id: state.instanceId,
    name: facts.name,
    backend: driver.name,
    version,
    containersRunning: counts.running,
    containersPaused: counts.paused,
    containersStopped: counts.stopped,
    images: state.images.size,
    storageDriver: facts.storageDriver,
    driverStatus: facts.storageStatus.map(([key, value]) => ({ key, value })),
    rootDir: rootDirectory,
    kernelVersion: facts.kernelVersion,
    operatingSystem: facts.operatingSystem,
    osVersion: facts.osVersion,
    osType: "linux",
    architecture: facts.architecture,
    ncpu: facts.ncpu,
    memTotal: facts.memTotal,
    cgroupDriver: facts.cgroupDriver,
    cgroupVersion: facts.cgroupVersion,
    cgroupControllers: [...facts.cgroupControllers],
    runtimes: facts.runtimes.map((runtime) => ({ ...runtime })),
    defaultRuntime: facts.runtimes[0]?.name ?? "",
    securityOptions: [...facts.securityOptions],
    loggingDriver: logDrivers[0],
    logDrivers: [...logDrivers],
    volumeDrivers: [...driver.policy.volumeDrivers],
    networkDrivers: [...builtinNetworks.values()],
    now: timestampOfNs(context.clock.nowNs()),
    eventsListeners: state.events.listeners,
    warnings: [...facts.warnings],
    components: facts.runtimes.map((runtime) => ({ name: runtime.name, version: runtime.version })),
    ipv4Forwarding: true,
    defaultAddressPools: toldPools(driver.networks.addressPools).map((pool) => ({ ...pool })),
  });
}

function countedAs(status: ContainerStatus): "running" | "paused" | "stopped" {
  switch (status) {
    case ContainerStatus.RUNNING:
    case ContainerStatus.RESTARTING:
      return "running";
    case ContainerStatus.PAUSED:
      return "paused";
    default:
      return "stopped";
  }
}
