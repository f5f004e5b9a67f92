/** Containers that differ in nothing but their command: telling that two are, and making another one of one. */
import { createHash } from "node:crypto";

import { create, toBinary } from "@bufbuild/protobuf";

import { shortId } from "../../common/ids.ts";
import {
  type ContainerConfig,
  type HostConfig,
  HostConfigSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  ImageRecordSchema,
  NetworkRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { PlannedContainer } from "../common/driver/launches.ts";
import type { NetworkPlan, WorkloadSpec } from "../common/driver/workload-spec.ts";
import { isOfBuild } from "../common/model/build-label.ts";
import { configOf, hostConfigOf } from "../common/model/records.ts";

/** The parts of a container that tell its shape. */
type Shaped = Pick<PlannedContainer, "config" | "endpoints" | "hostConfig" | "imageId"> & {
  /** Absent, or empty: it has none yet. */
  readonly id?: string;
};

/**
 * A key that containers have in common which differ in nothing but what a spare is told at its start: command,
 * environment, addresses and names. It is a good guess, since the host process compares all there is. Undefined:
 * no spare can be one of this container.
 */
export function shapeOf(container: Shaped): string | undefined {
  const { endpoints, imageId } = container;
  const config = container.config;
  const hostConfig = container.hostConfig;
  if (config === undefined || hostConfig === undefined || isOfBuild(config.labels)) {
    return undefined;
  }
  if (config.volumes.length > 0 || hasMounts(hostConfig) || publishesPorts(config, hostConfig)) {
    return undefined; // Such a mount, and such a port, is one container's.
  }
  const { domainname, networkDisabled, openStdin, stdinOnce, tty, user, workingDir } = config;
  const hostname = isOwn(config.hostname, container.id) ? "" : config.hostname;
  return createHash("sha256")
    .update(JSON.stringify([imageId, domainname, hostname, networkDisabled, user, workingDir]))
    .update(JSON.stringify([openStdin, stdinOnce, tty, Object.keys(endpoints)]))
    .update(toBinary(HostConfigSchema, withoutLife(hostConfig)))
    .digest("base64");
}

/** Settings that the runtime's configuration and the shim's are made of, but for the name files, which a start writes anew. */
const preparedSettings = [
  ...(["annotations", "capAdd", "capDrop", "cgroupnsMode", "consoleHeight", "consoleWidth"] as const),
  ...(["groupAdd", "init", "ipcMode", "logConfig", "maskedPaths", "oomScoreAdj", "pidMode"] as const),
  ...(["privileged", "readonlyPaths", "readonlyRootfs", "resources", "securityOpt", "shmSize"] as const),
  ...(["sysctls", "utsMode"] as const),
] as const satisfies readonly (keyof HostConfig)[];

/**
 * The parts of a container that a spare of its shape is prepared from. It has neither command nor environment, nor
 * labels, which may be secret, nor addresses, links and further hosts: a spare is told those at its start. It has
 * annotations and the log's options, since a container that has others gets another spare.
 */
export interface SparePlan extends Pick<WorkloadSpec, "mounts"> {
  /** ID of the container. */
  readonly like: string;
  readonly config: Pick<
    ContainerConfig,
    "domainname" | "openStdin" | "stdinOnce" | "tty" | "user" | "workingDir"
  >;
  /** The one that was asked for; empty: a spare's follows from its ID. */
  readonly hostname: string;
  readonly hostConfig: Pick<HostConfig, (typeof preparedSettings)[number]>;
  /** The networks' records but for their names are left out. */
  readonly network: NetworkPlan;
  readonly diffIds: readonly string[];
}

/** The plan of a container that has been launched. */
export function planOf({ image, mounts, network, record }: WorkloadSpec): SparePlan {
  const { domainname, hostname, openStdin, stdinOnce, tty, user, workingDir } = configOf(record);
  return {
    ...{ like: record.id, mounts, network: withNamesAlone(network), diffIds: image.diffIds },
    config: { domainname, openStdin, stdinOnce, tty, user, workingDir },
    hostname: isOwn(hostname, record.id) ? "" : hostname,
    hostConfig: prepared(hostConfigOf(record)),
  };
}

function prepared(hostConfig: HostConfig): SparePlan["hostConfig"] {
  return Object.fromEntries(
    preparedSettings.map((name) => [name, hostConfig[name]]),
  ) as SparePlan["hostConfig"];
}

/** A spare is attached to its networks at its start. */
function withNamesAlone(network: NetworkPlan): NetworkPlan {
  return network.kind === "networks"
    ? {
        kind: "networks",
        networks: network.networks.map(({ name }) => ({ name, record: create(NetworkRecordSchema) })),
      }
    : network;
}

/** The workload of a spare: under its ID, for its first start, without a place on its networks and a command. */
export function spareOf(plan: SparePlan, id: string): WorkloadSpec {
  const hostname = plan.hostname || shortId(id);
  return {
    record: create(ContainerRecordSchema, {
      ...{ id, generation: 1n, hostConfig: plan.hostConfig },
      config: { ...plan.config, hostname },
    }),
    image: create(ImageRecordSchema, { diffIds: [...plan.diffIds] }),
    ...{ mounts: plan.mounts, network: plan.network, args: [], env: [], awaitAttachIds: [] },
  };
}

/** Whether a run is one of which there could be a spare: the first one, of a container that joins no other and has no secrets. */
export function isFirstAlone({ joined, record, secrets }: WorkloadSpec): boolean {
  const hasSecrets = secrets !== undefined && secrets.files.length + secrets.env.length > 0;
  return record.generation === 1n && joined?.pid === undefined && joined?.ipc === undefined && !hasSecrets;
}

/** Whether a host name is the one that follows from the ID. */
function isOwn(hostname: string, id: ContainerRecord["id"] | undefined): boolean {
  return hostname === "" || (id !== undefined && hostname === shortId(id));
}

function hasMounts({ binds, mounts, volumesFrom }: HostConfig): boolean {
  return binds.length + volumesFrom.length > 0 || mounts.some(({ type }) => type !== "tmpfs");
}

/** A spare has none, since it has no address: only the launch would find that it has other settings. */
function publishesPorts(
  { exposedPorts }: ContainerConfig,
  { portBindings, publishAllPorts }: HostConfig,
): boolean {
  return portBindings.length > 0 || (publishAllPorts && exposedPorts.length > 0);
}

/** Without what only the engine reads. */
function withoutLife(hostConfig: HostConfig): HostConfig {
  const { restartPolicy: _, ...rest } = hostConfig;
  return { ...rest, autoRemove: false, containerIdFile: "" };
}
