import { join } from "node:path";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ownValue } from "../../common/own-value.ts";
import { systemError } from "../../common/errors.ts";
import { readOrEmpty } from "../../common/read-or-empty.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import type {
  BoundPort as HostBoundPort,
  ContainerOnDisk,
  CreateContainerRequestSchema,
  LaunchContainerRequestSchema,
  MountSchema,
  NetworkNamespaceSchema,
} from "../../gen/sockerless/host/v1/host_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { isOfBuild } from "../model/build-label.ts";
import { defaultGatewayOf } from "../model/default-gateway.ts";
import type { BoundPort, StepsOfStages } from "../driver/launches.ts";
import { endsUnreported } from "../driver/ready-made-roles.ts";
import type { ResolvedMount, WorkloadSpec } from "../driver/workload-spec.ts";
import type { FoundWorkload, Workloads } from "../driver/workloads.ts";
import { dockerSocketMounts } from "./docker-sockets.ts";
import { fromHostError, type HostClient, orHostError } from "./host-client.ts";
import { interfaceOf } from "./interfaces.ts";
import { logSettings } from "../logging/log-settings.ts";
import { nameFilePaths } from "./name-file-paths.ts";
import { type MachineNames, nameFiles } from "./name-files.ts";
import { sourceOf } from "./oci/mounts.ts";
import { type MachineProfile, ociSpec } from "./oci/spec.ts";
import { pathsOfWorkload } from "./paths.ts";
import { publishedPorts } from "./ports.ts";
import { hostSecrets } from "./secrets.ts";

/** The parts of this machine needed for requests to the host process. */
export interface LocalMachineParts {
  readonly host: HostClient["client"];
  readonly profile: MachineProfile;
  /** The state directory, as known to the host process; containers have their directories below it. */
  readonly stateDir: string;
  /** The directory of volumes, without links, as the host process knows it. */
  readonly volumesDir: string;
  /** Path of the unix socket where the host process serves the files of stopped containers. */
  readonly storedSocket: string;
  /** The unix socket of the frontend's Docker API; undefined if it has none on this machine. */
  readonly frontendSocket: string | undefined;
}

/** Containers of this machine: the host process prepares them, and a shim per container runs them. */
export function localWorkloads(parts: LocalMachineParts): Workloads {
  const { host } = parts;
  const list = async (...containerIds: readonly string[]): Promise<readonly FoundWorkload[]> => {
    const { containers } = await orHostError(host.listContainers({ containerIds: [...containerIds] }));
    return containers.map(foundWorkload);
  };
  return {
    async create(spec) {
      await orHostError(host.createContainer(createRequest(withVolumesHere(spec, parts), parts)));
    },
    async launch(asked, signal, progress) {
      const from = new Date();
      const spec = withVolumesHere(asked, parts);
      const request = await launchRequest(spec, parts);
      const launched = await host.launchContainer(request, { signal }).catch((error: unknown) => {
        throw launchError(error, spec);
      });
      progress.phase({ name: "launch", by: "backend", from, until: new Date() });
      return {
        agent: { kind: "unix", path: launched.agentSocket },
        boundPorts: launched.boundPorts.map(boundPort),
        reference: launched.agentSocket,
        networkNamespace: launched.networkNamespace,
      };
    },
    async release(containerId) {
      await orHostError(host.releaseContainer({ containerId }));
    },
    nameFilePaths: (record, containerOf) => nameFilePaths(record, parts.stateDir, containerOf),
    async remove(containerId) {
      await orHostError(host.removeContainer({ containerId }));
    },
    list: () => list(),
    find: async (id) => (await list(id)).find(({ containerId }) => containerId === id),
    onEnd: endsUnreported,
    interruptionOf: () => "",
    wholeLog: () => undefined,
    stored: () => ({ kind: "unix", path: parts.storedSocket }),
    async storedServed() {
      await orHostError(host.hello({}));
    },
  };
}

/** Steps of builds whose shims keep their sandboxes. */
export function localSteps(host: HostClient["client"]): StepsOfStages {
  return {
    kind: "in-fresh-files",
    async leave(containerId) {
      const { kept } = await orHostError(host.releaseContainer({ containerId, unlessKept: true }));
      return kept;
    },
  };
}

function hostMount({ config }: ContainerRecord, mount: ResolvedMount): MessageInitShape<typeof MountSchema> {
  const { destination, readOnly } = mount;
  return mount.type === "image"
    ? {
        destination,
        readOnly,
        layerDiffIds: [...(mount.layerDiffIds ?? [])],
        subpath: mount.subpath ?? "",
        // Like BuildKit for sources of a RUN's mounts, and dockerd for users' mounts.
        subpathInImage: isOfBuild(config?.labels ?? {}),
      }
    : { destination, readOnly, source: sourceOf(mount) };
}

/** Volumes are where the state directory is now, which may have been moved since they were made. */
function withVolumesHere(spec: WorkloadSpec, { volumesDir }: LocalMachineParts): WorkloadSpec {
  const mounts = spec.mounts.map((mount) =>
    mount.volume === undefined
      ? mount
      : {
          ...mount,
          volume: { ...mount.volume, driverReference: join(volumesDir, mount.volume.name, "_data") },
        },
  );
  return { ...spec, mounts };
}

/** The request for a container's creation. */
function createRequest(
  { image, mounts, record }: WorkloadSpec,
  parts: LocalMachineParts,
): MessageInitShape<typeof CreateContainerRequestSchema> {
  const sockets = dockerSocketMounts(mounts, parts.frontendSocket);
  const seeds = mounts.filter((mount) => mount.volume !== undefined && mount.copyUp === true);
  return {
    containerId: record.id,
    layerDiffIds: image.diffIds,
    workingDirectory: record.config?.workingDir ?? "",
    volumeSeeds: seeds.map((mount) => ({ volumePath: sourceOf(mount), path: mount.destination })),
    mounts: [
      ...sockets.rest.filter((mount) => mount.type !== "tmpfs").map((mount) => hostMount(record, mount)),
      // The mount point of a socket is a file, whatever this machine has at the default path.
      ...sockets.sockets.map(({ containerPath, frontendSocket }) => ({
        destination: containerPath,
        source: frontendSocket,
      })),
    ],
    readOnlyRoot: record.hostConfig?.readonlyRootfs ?? false,
    bindSources: sockets.rest.filter(({ type }) => type === "bind").map(sourceOf),
  };
}

/** The request for a start. */
async function launchRequest(
  workload: WorkloadSpec,
  parts: LocalMachineParts,
): Promise<MessageInitShape<typeof LaunchContainerRequestSchema>> {
  const { record } = workload;
  const sockets = dockerSocketMounts(workload.mounts, parts.frontendSocket);
  const withoutSockets = { ...workload, mounts: sockets.rest };
  const paths = await pathsOfWorkload(parts.host, withoutSockets);
  const spec = ociSpec(withoutSockets, parts.profile, paths);
  const ociConfig = new TextEncoder().encode(stringifyJson(spec));
  const secrets = workload.secrets ?? { files: [], env: [] };
  const size = spec.process.consoleSize;
  return {
    containerId: record.id,
    generation: record.generation,
    ociSpec: ociConfig,
    layerDiffIds: workload.image.diffIds,
    user: record.config?.user ?? "",
    additionalGroups: record.hostConfig?.groupAdd ?? [],
    network: networkNamespace(workload),
    ports: publishedPorts(record, workload.network),
    files: nameFiles(record, workload.network, machineNames(workload), workload.linkedHosts)
      .filter((file) => !workload.mounts.some((mount) => mount.destination === file.containerPath))
      .map((file) => ({
        containerPath: file.containerPath,
        content: new TextEncoder().encode(file.content),
        mode: 0o644,
      })),
    tty: record.config?.tty ?? false,
    openStdin: record.config?.openStdin ?? false,
    stdinOnce: record.config?.stdinOnce ?? false,
    ...(size !== undefined && { consoleSize: size }),
    log: logSettings(record.hostConfig?.logConfig),
    // With another PID namespace there already is an init.
    init: record.hostConfig?.init === true && record.hostConfig.pidMode === "",
    pidContainerId: workload.joined?.pid ?? "",
    ipcContainerId: workload.joined?.ipc ?? "",
    imageMounts: sockets.rest
      .filter((mount) => mount.type === "image")
      .map((mount) => hostMount(record, mount)),
    ipcShareable: record.hostConfig?.ipcMode === "shareable",
    dockerSockets: sockets.sockets,
    keep: isOfBuild(record.config?.labels ?? {}),
    continues: workload.continues ?? false,
    secretEnv: [...secrets.env],
    secrets: hostSecrets(secrets, ociConfig),
    bindSources: sockets.rest
      .filter((mount) => mount.type === "bind")
      .map((mount) => ({ path: sourceOf(mount), create: mount.createSource ?? false })),
  };
}

function networkNamespace(workload: WorkloadSpec): MessageInitShape<typeof NetworkNamespaceSchema> {
  const { network, record } = workload;
  switch (network.kind) {
    case "host":
      return { kind: { case: "host", value: true } };
    case "none":
      return { kind: { case: "none", value: true } };
    case "container":
      return { kind: { case: "containerId", value: network.containerId } };
    case "networks": {
      const defaultGateway = defaultGatewayOf(record.endpoints);
      const interfaces = network.networks.flatMap(({ name, record: joined }) => {
        const endpoint = ownValue(record.endpoints, name);
        return endpoint === undefined
          ? []
          : [
              {
                ...interfaceOf(endpoint, joined),
                gateway: endpoint.gateway === defaultGateway ? endpoint.gateway : "",
              },
            ];
      });
      return { kind: { case: "bridged", value: { interfaces } } };
    }
  }
}

/** Read at each start, as a machine that moves to another network gets other resolvers. */
function machineNames(workload: WorkloadSpec): MachineNames {
  const { network, record } = workload;
  // An internal network has no gateway, but the machine still has an address on it.
  const [joined] = network.kind === "networks" ? network.networks : [];
  const address = defaultGatewayOf(record.endpoints) ?? joined?.record.network?.pools[0]?.gateway;
  return {
    hosts: readOrEmpty("/etc/hosts"),
    resolvConf: readOrEmpty("/etc/resolv.conf"),
    hostGateway: address || "127.0.0.1",
  };
}

function launchError(error: unknown, workload: WorkloadSpec): Error {
  if (error instanceof ConnectError && error.code === Code.ResourceExhausted) {
    const { record } = workload;
    const endpoint = Object.values(record.endpoints)[0]?.endpointId ?? "";
    return systemError(
      `failed to set up container networking: driver failed programming external connectivity on endpoint ${record.name} (${endpoint}): ${error.rawMessage}`,
      error,
    );
  }
  return fromHostError(error);
}

function boundPort(port: HostBoundPort): BoundPort {
  return {
    protocol: port.protocol as BoundPort["protocol"],
    hostIp: port.hostIp,
    hostPort: port.hostPort,
    containerPort: port.containerPort,
  };
}

function foundWorkload(found: ContainerOnDisk): FoundWorkload {
  const exit = found.lastState?.exit;
  return {
    containerId: found.containerId,
    generation: found.generation,
    agent: found.shimAlive ? { kind: "unix", path: found.agentSocket } : undefined,
    addresses: found.addresses,
    boundPorts: found.boundPorts.map(boundPort),
    unfinished: found.unfinished,
    exit:
      exit === undefined
        ? undefined
        : {
            code: exit.code,
            oomKilled: exit.oomKilled,
            finishedAt: exit.finishedAt === undefined ? new Date(0) : timestampDate(exit.finishedAt),
          },
    ...(found.begunAt !== undefined && { begunAt: timestampDate(found.begunAt) }),
    execExits: new Map(
      (found.lastState?.endedExecs ?? []).map((ended) => [ended.execId, ended.exit?.code ?? 255]),
    ),
  };
}
