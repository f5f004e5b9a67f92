/** Roles of a driver that has nothing of its own to say. */
import { notImplemented, systemError } from "../../common/errors.ts";
import type { AgentAuthority, AgentReach, Seals, SilentAgents } from "./agents.ts";
import type { ArchiveDownloads, LayerUploads } from "./archives.ts";
import type { LayerUnpacking } from "./images.ts";
import type { Launches } from "./launches.ts";
import type { Disk } from "./machine.ts";
import type { ContainerTraffic, NetworkSharing, PublishedPorts } from "./networks.ts";
import type { PlatformAtHand } from "./platform.ts";
import type { HostPaths, LimitChanges } from "./settings.ts";
import type { VolumeParts } from "./volumes.ts";
import type { NameFilePaths } from "./workloads.ts";

/** A machine that answers at once. */
export const platformAtHand: PlatformAtHand = { kind: "at-hand" };

/** Launches are short, told everything at once, and leave nothing behind. None is ahead. */
export const plainLaunches: Launches = {
  whenUnwanted: "await",
  steps: { kind: "apart" },
  startDetails: () => Promise.resolve({}),
  started: () => Promise.resolve(),
};

/** An agent that does not answer is gone. */
export const silentAgentsAreGone: SilentAgents = { kind: "gone" };

/** Agents are on unix sockets, and ask for no certificate. */
export const agentsOnSockets: AgentAuthority = {
  credentialsFor: () => Promise.resolve(undefined),
  certify: refuseCertificate,
  certifyPartner: refuseCertificate,
  certifyPeer: refuseCertificate,
};

function refuseCertificate(): Promise<never> {
  return Promise.reject(systemError("agents on unix sockets take no certificates"));
}

/** Agents keep nothing of their containers. */
export const nothingSealed: Seals = { seal: () => Promise.resolve(undefined) };

/** The limits of running containers stay as they are. @param backend its name, for the refusal */
export function fixedLimits(backend: string): LimitChanges {
  return {
    encode() {
      throw notImplemented(`the ${backend} backend cannot change the limits of a running container`);
    },
  };
}

/** Ports are listened on where the container runs. */
export const portsOfDriver: PublishedPorts = { listener: "driver" };

/** Ports are listened on by a frontend. */
export const portsOfFrontend: PublishedPorts = { listener: "frontend" };

/** There are no host paths. */
export const hostPathsIgnored: HostPaths = { kind: "ignored" };

/** The driver has containers share a network's namespace. */
export const namespacesShared: NetworkSharing = { kind: "namespace" };

/** Agents make one of their networks. */
export const agentsJoin: NetworkSharing = { kind: "agents" };

/** Containers reach one another. */
export const directTraffic: ContainerTraffic = { kind: "direct" };

/** Agents dial one another. */
export const agentsDialled: AgentReach = { kind: "dialled" };

/** Volumes take no room of a disk as they are written to. */
export function neverShort(): Promise<void> {
  return Promise.resolve();
}

/** Directories of volumes are mounted as they are. */
export const partsReady: VolumeParts = { kind: "ready" };

/** The platform unpacks layers where it runs an image. */
export const unpackedByPlatform: LayerUnpacking = { kind: "platform" };

/** Uploads of layers come through the backend. */
export const uploadsRelayed: LayerUploads = { kind: "relayed" };

/** Archives of images come through the backend. */
export const downloadsRelayed: ArchiveDownloads = { kind: "relayed" };

/** Agents tell what containers have written. */
export const writtenAsAgentsTell: Disk = { kind: "agents" };

/** Containers have no name files on this machine. */
export function noNameFiles(): NameFilePaths {
  return { hostnamePath: "", hostsPath: "", resolvConfPath: "" };
}

/** Nothing that a driver has made outlives the state. */
export function nothingFound(): Promise<readonly []> {
  return Promise.resolve([]);
}
