/** Default roles for drivers. */
import { notImplemented, systemError } from "../../common/errors.ts";
import type { AgentAuthority, AgentReach, Seals, SilentAgents } from "./agents.ts";
import type { ArchiveDownloads, LayerUploads } from "./archives.ts";
import type { LayerUnpacking } from "./images.ts";
import type { Launches } from "./launches.ts";
import type { Disk } from "./machine.ts";
import type { ContainerTraffic, NetworkSharing, PublishedPorts } from "./networks.ts";
import type { PreparedWorkloads } from "./prepared.ts";
import type { SiteAtHand } from "./site.ts";
import type { LimitChanges } from "./settings.ts";
import type { VolumeParts } from "./volumes.ts";
import type { NameFilePaths } from "./workloads.ts";

/** A machine that answers at once. */
export const siteAtHand: SiteAtHand = { kind: "at-hand" };

/** Short launches without phases, waits or leftovers. */
export const plainLaunches: Omit<Launches, "steps"> = {
  stopDuringLaunch: "await",
  startDetails: () => Promise.resolve({}),
  mayLaunchAgain: () => Promise.resolve(false),
  started: () => Promise.resolve(),
};

/** An agent that does not answer has ended. */
export const silentAgentsAreGone: SilentAgents = { kind: "gone" };

/** Agents listen on unix sockets and require no certificate. */
export const agentsOnSockets: AgentAuthority = {
  credentialsFor: () => Promise.resolve(undefined),
  certify: refuseCertificate,
  certifyPartner: refuseCertificate,
  certifyPeer: refuseCertificate,
};

function refuseCertificate(): Promise<never> {
  return Promise.reject(systemError("agents on unix sockets take no certificates"));
}

/** Agents store nothing about their containers. */
export const nothingSealed: Seals = {
  seal: () => Promise.resolve(undefined),
  laterStart: () => Promise.resolve(undefined),
};

/** The limits of running containers cannot be changed. @param backend its name, for the error */
export function fixedLimits(backend: string): LimitChanges {
  return {
    encode: () =>
      Promise.reject(
        notImplemented(`the ${backend} backend cannot change the limits of a running container`),
      ),
  };
}

/** The driver listens on published ports, where the container runs. */
export const portsOfDriver: PublishedPorts = { listener: "driver" };

/** A frontend listens on published ports. */
export const portsOfFrontend: PublishedPorts = { listener: "frontend" };

/** Containers that share a network share its namespace. */
export const namespacesShared: NetworkSharing = { kind: "namespace" };

/** Agents present the containers that share a network as one. */
export const agentsJoin: NetworkSharing = { kind: "agents" };

/** Containers reach one another directly. */
export const directTraffic: ContainerTraffic = { kind: "direct" };

/** Agents dial one another. */
export const agentsDialled: AgentReach = { kind: "dialled" };

/** Volumes take no disk space as they are written to. */
export function neverShort(): Promise<void> {
  return Promise.resolve();
}

/** Directories of volumes can be mounted without preparation. */
export const partsReady: VolumeParts = { kind: "ready" };

/** The platform unpacks layers when it runs an image. */
export const unpackedByPlatform: LayerUnpacking = { kind: "platform" };

/** Uploads of layers pass through the backend. */
export const uploadsRelayed: LayerUploads = { kind: "relayed" };

/** Archives of images pass through the backend. */
export const downloadsRelayed: ArchiveDownloads = { kind: "relayed" };

/** Nothing is made before a container is started. */
export const nothingPrepared: PreparedWorkloads = { report: () => undefined, drain: () => undefined };

/** Agents report what containers have written. */
export const diskFromAgents: Disk = { kind: "agents" };

/** Containers have no name files on this machine. */
export function noNameFiles(): NameFilePaths {
  return { hostnamePath: "", hostsPath: "", resolvConfPath: "" };
}

/** The platform reports no end by itself: agents do. */
export function endsUnreported(): () => void {
  return () => {};
}

/** No quota is known that containers take from. */
export function quotasUnknown(): Promise<readonly []> {
  return Promise.resolve([]);
}

/** Nothing made by the driver outlives the state. */
export function nothingFound(): Promise<readonly []> {
  return Promise.resolve([]);
}
