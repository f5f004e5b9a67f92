import { realpathSync } from "node:fs";
import { join } from "node:path";

import type { HelloResponse } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { Driver } from "../driver/driver.ts";
import {
  agentsDialled,
  agentsOnSockets,
  directTraffic,
  namespacesShared,
  nothingPrepared,
  nothingSealed,
  plainLaunches,
  siteAtHand,
  portsOfDriver,
  silentAgentsAreGone,
} from "../driver/ready-made-roles.ts";
import { localDisk } from "./disk.ts";
import type { HostProcess } from "./host-process.ts";
import { localImages } from "./images.ts";
import { localMachine } from "./machine.ts";
import { localNetworks } from "./networks.ts";
import { readMachineProfile } from "./oci/spec.ts";
import { localSettings } from "./settings.ts";
import { encodeOciLimits } from "./oci/limits.ts";
import { bindSourceExists, pathsOfLimits } from "./paths.ts";
import { localVolumes } from "./volumes.ts";
import { localSteps, localWorkloads } from "./workloads.ts";

/** Settings of a {@link localDriver}. */
export interface LocalDriverOptions {
  /** The unix socket of the frontend's Docker API; undefined if it has none on this machine. */
  readonly frontendSocket: string | undefined;
}

/**
 * The driver of this machine, on top of its host process, which it closes.
 *
 * @param hello the host process's description of itself and the machine
 */
export function localDriver(
  host: HostProcess,
  hello: HelloResponse,
  { frontendSocket }: LocalDriverOptions,
): Driver {
  const profile = readMachineProfile(hello);
  const { storedSocket } = hello;
  const { stateDir } = host;
  const volumesDir = join(realpathSync(stateDir), "volumes");
  const options = { host: host.client, profile, stateDir, volumesDir, storedSocket, frontendSocket };
  return {
    name: "local",
    settings: localSettings,
    site: siteAtHand,
    launches: { ...plainLaunches, steps: localSteps(host.client) },
    silentAgents: silentAgentsAreGone,
    authority: agentsOnSockets,
    seals: nothingSealed,
    limits: {
      async encode(limits) {
        return encodeOciLimits(limits, await pathsOfLimits(host.client, limits));
      },
    },
    ports: portsOfDriver,
    hostPaths: {
      kind: "mounted",
      stateDirectory: host.stateDir,
      exists: (path) => bindSourceExists(host.client, path),
    },
    sharing: namespacesShared,
    traffic: directTraffic,
    agentReach: agentsDialled,
    prepared: nothingPrepared,
    workloads: localWorkloads(options),
    images: localImages(host.client, storedSocket),
    networks: localNetworks(host.client),
    volumes: localVolumes(host, hello),
    machine: localMachine(hello, profile),
    disk: localDisk(host.client),
    close: () => host.close(),
  };
}
