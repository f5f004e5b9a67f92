/**
 * The task definition of a container. It has only settings that nothing else can hold, so that similar containers share
 * one: command, environment, user and working directory are sent to the agent; size, roles and disk are overrides.
 */
import { createHash } from "node:crypto";

import type {
  ContainerDefinition,
  LogConfiguration,
  MountPoint,
  RegisterTaskDefinitionCommandInput,
  UlimitName,
  Volume,
} from "@aws-sdk/client-ecs";

import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { invalid, systemError } from "../../../common/errors.ts";
import type { ImageRecord, VolumePart, VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";
import { askedCapabilities } from "../../security/linux-capabilities.ts";
import { logSettings } from "../../logging/log-settings.ts";
import { efsVolume } from "../access-points/efs-volume.ts";
import { accessPointOf } from "../access-points/reference.ts";
import { repositoryCredentials, type TaskImage } from "../ecr/task-image.ts";
import { type AgentSource, agentParts } from "./agent-container.ts";
import { dependsOn, imageMountParts } from "./image-mounts.ts";
import { smallestSize, taskSizeOf } from "./sizes.ts";
import { sharedMemory, taskTmpfs } from "./tmpfs.ts";
import { taskVolumeName } from "./volume-names.ts";

/** Settings shared by all tasks of this backend. */
export interface DefinitionSettings {
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  readonly region: string;
  readonly logGroup: string;
  readonly executionRoleArn: string;
  /**
   * The containers' role, if file systems are mounted with its permissions; undefined if they are mounted anonymously.
   */
  readonly mountRoleArn: string | undefined;
  readonly architecture: "amd64" | "arm64";
  readonly agent: AgentSource;
}

/** A definition to be registered; its family is derived from its content. */
export type Definition = RegisterTaskDefinitionCommandInput & { readonly family: string };

/** The container that runs the user's process. */
export const mainContainerName = "main";
/** Streams are `<prefix>/main/<task ID>`. */
export const logStreamPrefix = "sockerless";
/**
 * Prefix of the families of an instance's definitions, and of no other's.
 *
 * @param instance `sockerless/<hex>`
 */
export function familyPrefixOf(instance: string): string {
  return `${instance.replace("/", "-")}-`;
}

/** Seconds for the agent when a task is stopped through AWS: AWS's maximum. */
const stopTimeoutS = 120;
const familyDigits = 32;
const kib = 1024;
/** AWS's maximum for a definition. */
const mostBytes = 64 * kib;

/**
 * The definition of a container.
 *
 * @param taskImage resolves an image to the one that tasks pull
 * @throws invalid: a setting that task definitions cannot hold, or more than they can; the errors of `taskImage`
 */
export function definitionOf(
  spec: WorkloadSpec,
  taskImage: (image: ImageRecord) => TaskImage,
  settings: DefinitionSettings,
): Definition {
  const iam = settings.mountRoleArn !== undefined;
  const agent = agentParts(settings.agent, iam);
  const volumes = volumeParts(spec, iam);
  const images = imageMountParts(spec.mounts, taskImage, agent);
  const before = [...agent.containers, ...images.containers];
  const logs = logsOf(settings, spec.record.hostConfig);
  const content: Omit<Definition, "family"> = {
    networkMode: "awsvpc",
    requiresCompatibilities: ["FARGATE"],
    runtimePlatform: {
      cpuArchitecture: settings.architecture === "arm64" ? "ARM64" : "X86_64",
      operatingSystemFamily: "LINUX",
    },
    cpu: String(smallestSize.cpu),
    memory: String(smallestSize.memory),
    executionRoleArn: settings.executionRoleArn,
    // The role in the request may come too late: ECS documents that volumes are mounted with the definition's.
    ...(iam ? { taskRoleArn: settings.mountRoleArn } : {}),
    volumes: [...agent.volumes, ...volumes.volumes, ...images.volumes],
    containerDefinitions: [
      ...before.map((container) => ({ ...container, logConfiguration: logs })),
      {
        ...mainContainer(spec, taskImage(spec.image)),
        entryPoint: [agent.binary],
        command: ["init"],
        mountPoints: [...agent.mountPoints, ...volumes.mountPoints, ...images.mountPoints],
        dependsOn: dependsOn(before),
        logConfiguration: logs,
      },
    ],
  };
  const json = Buffer.from(JSON.stringify(content));
  if (json.length > mostBytes) {
    throw invalid(
      `too many mounts and settings: their task definition has ${json.length} bytes, and ECS takes ${mostBytes}`,
    );
  }
  const hash = createHash("sha256").update(json).digest("hex");
  return { family: `${familyPrefixOf(settings.instance)}${hash.slice(0, familyDigits)}`, ...content };
}

function mainContainer(spec: WorkloadSpec, image: TaskImage): ContainerDefinition {
  const { hostConfig } = spec.record;
  const ulimits = (hostConfig?.resources?.ulimits ?? []).filter(isForPlatform);
  const sysctls = Object.entries(hostConfig?.sysctls ?? {}).sort(byName);
  return {
    name: mainContainerName,
    image: image.reference,
    essential: true,
    user: "0", // The agent switches users itself, for each process.
    stopTimeout: stopTimeoutS,
    linuxParameters: linuxParameters(spec, hostConfig),
    ...(hostConfig?.readonlyRootfs === true ? { readonlyRootFilesystem: true } : {}),
    ...(ulimits.length === 0
      ? {}
      : {
          ulimits: ulimits.map(({ name, soft, hard }) => ({
            name: name as UlimitName,
            softLimit: unlimited(soft),
            hardLimit: unlimited(hard),
          })),
        }),
    ...(sysctls.length === 0
      ? {}
      : { systemControls: sysctls.map(([namespace, value]) => ({ namespace, value })) }),
    ...repositoryCredentials(image),
  };
}

/** Limits without an upper bound in Linux by default. */
const boundless: ReadonlySet<string> = new Set([
  "core",
  "cpu",
  "data",
  "fsize",
  "locks",
  "rss",
  "rttime",
  "stack",
]);

/**
 * Whether a definition sets a limit. AWS would turn Docker's -1 into a bound for limits that have none on the platform:
 * only the agent sets these.
 */
function isForPlatform({ name, hard }: { readonly name: string; readonly hard: bigint }): boolean {
  return hard >= 0n || !boundless.has(name);
}

/** Docker's -1 as the largest number that all of AWS's clients can parse: AWS has no value for "unlimited". */
function unlimited(limit: bigint): number {
  return limit < 0n ? 2 ** 31 - 1 : Number(limit);
}

/** The agent reaps processes, so AWS's own init is not needed. */
function linuxParameters(
  spec: WorkloadSpec,
  hostConfig: HostConfig | undefined,
): NonNullable<ContainerDefinition["linuxParameters"]> {
  const { memory } = taskSizeOf(hostConfig?.resources);
  const mounted = spec.mounts.filter(({ type }) => type === "tmpfs").map((mount) => taskTmpfs(mount, memory));
  const tmpfs = [...sharedMemory(spec), ...mounted];
  const traces = askedCapabilities(hostConfig).added.includes("CAP_SYS_PTRACE");
  return {
    initProcessEnabled: false,
    ...(traces ? { capabilities: { add: ["SYS_PTRACE"] } } : {}),
    ...(tmpfs.length > 0 ? { tmpfs } : {}),
  };
}

/**
 * `--log-opt mode=non-blocking` with its buffer is passed to the platform; the task's own record is complete in any
 * case.
 */
function logsOf(settings: DefinitionSettings, hostConfig: HostConfig | undefined): LogConfiguration {
  const { bufferSize } = logSettings(hostConfig?.logConfig);
  return {
    logDriver: "awslogs",
    options: {
      "awslogs-group": settings.logGroup,
      "awslogs-region": settings.region,
      "awslogs-stream-prefix": logStreamPrefix,
      ...(bufferSize === undefined
        ? { mode: "blocking" } // An account's default may drop lines.
        : { mode: "non-blocking", "max-buffer-size": `${Math.ceil(Number(bufferSize) / kib)}k` }),
    },
  };
}

interface VolumeParts {
  readonly volumes: readonly Volume[];
  readonly mountPoints: readonly MountPoint[];
}

/** A volume without an access point is a directory of the task; it needs no mount if the root is writable. */
function volumeParts(spec: WorkloadSpec, iam: boolean): VolumeParts {
  const volumes = new Map<string, Volume>();
  const mountPoints: MountPoint[] = [];
  for (const mount of spec.mounts) {
    const volume = mount.volume === undefined ? undefined : taskVolume(mount, spec, iam);
    if (volume === undefined) {
      continue;
    }
    volumes.set(volume.name ?? "", volume);
    mountPoints.push({
      sourceVolume: volume.name,
      containerPath: mount.destination,
      readOnly: mount.readOnly,
    });
  }
  return { volumes: [...volumes.values()], mountPoints };
}

/** Paths of volumes that need no mount in the task: the agent creates their directories, with the image's content. */
export function unmountedVolumes(spec: WorkloadSpec): readonly string[] {
  return spec.mounts
    .filter((mount) => mount.volume !== undefined && taskVolume(mount, spec, false) === undefined)
    .map(({ destination }) => destination);
}

function taskVolume(
  { volume, subpath = "" }: ResolvedMount,
  spec: WorkloadSpec,
  iam: boolean,
): Volume | undefined {
  if (volume === undefined) {
    return undefined;
  }
  const accessPoint = accessPointOf(subpath === "" ? volume : partOf(volume, subpath));
  if (accessPoint === undefined) {
    const needed = !volume.anonymous || spec.record.hostConfig?.readonlyRootfs === true;
    return needed ? { name: taskVolumeName(volume.name) } : undefined;
  }
  return {
    name: taskVolumeName(subpath === "" ? volume.name : `${volume.name}/${subpath}`),
    efsVolumeConfiguration: efsVolume(accessPoint, iam),
  };
}

function partOf({ name, parts }: VolumeRecord, subpath: string): VolumePart {
  const part = parts.find((each) => each.subpath === subpath && each.driverReference !== "");
  if (part === undefined) {
    throw systemError(`directory ${subpath} of volume ${name} has no access point`);
  }
  return part;
}

function byName(a: readonly [string, string], b: readonly [string, string]): number {
  return a[0] < b[0] ? -1 : 1;
}
