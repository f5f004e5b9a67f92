/** Answers for `docker info` and `docker version`. */
import { create } from "@bufbuild/protobuf";

import { version } from "../../../common/version.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { type GetInfoResponse, GetInfoResponseSchema } from "../../../gen/sockerless/backend/v1/system_pb.ts";
import type { EngineContext } from "../context.ts";
import { logDrivers } from "../../logging/log-options.ts";
import { lossWarning } from "../recovery/losses.ts";
import { shownPools } from "../networks/decisions/address-pools.ts";
import { builtinNetworks } from "../networks/decisions/networks.ts";
import { isVisible, stateOf, timestampOfNs } from "../../model/records.ts";

/** Facts about the backend that the engine does not know. */
export interface BackendFacts {
  /** Path of the state directory. */
  readonly stateDirectory: string;
  /** `host`, `host:port`, or an address range. */
  readonly insecureRegistries: readonly string[];
}

/** The backend's description. */
export async function infoOf(context: EngineContext, backend: BackendFacts): Promise<GetInfoResponse> {
  const { driver, state } = context;
  const facts = await driver.machine.facts();
  const loss = lossWarning(context);
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
    images: [...state.images.values()].filter(({ ofBuild }) => !ofBuild).length,
    storageDriver: facts.storageDriver,
    driverStatus: facts.storageStatus.map(([key, value]) => ({ key, value })),
    rootDir: backend.stateDirectory,
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
    volumeDrivers: driver.volumes.rules.drivers.map(({ name }) => name),
    networkDrivers: [...builtinNetworks.values()],
    now: timestampOfNs(context.clock.nowNs()),
    eventsListeners: state.events.listeners,
    warnings: [...facts.warnings, ...(loss === undefined ? [] : [`WARNING: ${loss}`])],
    firewallBackend: facts.firewallBackend ?? "",
    components: facts.runtimes.map((runtime) => ({ name: runtime.name, version: runtime.version })),
    ipv4Forwarding: true,
    defaultAddressPools: shownPools(driver.networks.addressPools).map((pool) => ({ ...pool })),
    insecureRegistries: [...backend.insecureRegistries],
    continuesRuns: true,
    pool: driver.prepared.report()?.summary ?? "",
    mountsDirectoriesOnly: driver.hostPaths.kind === "ignored",
  });
}

/** The count that a container is part of. */
export function countedAs(status: ContainerStatus): "running" | "paused" | "stopped" {
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
