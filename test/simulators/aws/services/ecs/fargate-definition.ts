/** Refusals of task definitions by ECS and Fargate. */
import type { ContainerDefinition, RegisterTaskDefinitionCommandInput, Volume } from "@aws-sdk/client-ecs";

import type { Given } from "../../wire/service.ts";
import { isRole } from "./roles.ts";
import { cpuUnits, isFargateSize, memoryMib } from "./sizes.ts";

type Definition = Given<RegisterTaskDefinitionCommandInput>;
type GivenContainer = Given<ContainerDefinition>;
type GivenVolume = Given<Volume>;

/** The most bytes that a definition has. */
const largestDefinition = 64 * 1024;
/** An image's reference as ECS takes it: with a tag or a digest. */
const imagePattern = /^[A-Za-z0-9_\-:./#@]{1,255}$/;
const namePattern = /^[A-Za-z0-9_-]{1,255}$/;

/** ECS' reason not to register a definition, in its words as far as they are known; undefined: it registers it. */
export function definitionViolation(definition: Definition): string | undefined {
  return commonViolation(definition) ?? fargateViolation(definition);
}

/** The violation of a rule that holds for tasks of any kind; undefined: there is none. */
function commonViolation({
  family = "",
  containerDefinitions = [],
  volumes = [],
  ...rest
}: Definition): string | undefined {
  const whole = { family, containerDefinitions, volumes, ...rest };
  if (Buffer.byteLength(JSON.stringify(whole)) > largestDefinition) {
    return `Actual length of the task definition exceeds the ${largestDefinition} bytes that it may have.`;
  }
  const badRole = [rest.taskRoleArn, rest.executionRoleArn].find((role) => !isRole(role));
  if (badRole !== undefined) {
    return `Role is not valid: '${badRole}'.`;
  }
  if (!namePattern.test(family)) {
    return "Family contains invalid characters; up to 255 letters, digits, hyphens and underscores are allowed.";
  }
  if (containerDefinitions.length === 0 || containerDefinitions.length > 10) {
    return "Container list must have 1 to 10 containers.";
  }
  const names = containerDefinitions.map(({ name = "" }) => name);
  const badName = names.find((name) => !namePattern.test(name));
  if (badName !== undefined) {
    return `Invalid container name '${badName}': up to 255 letters, digits, hyphens and underscores are allowed.`;
  }
  if (new Set(names).size < names.length) {
    return "Container names must be unique in a task definition.";
  }
  if (!containerDefinitions.some(({ essential }) => essential !== false)) {
    return "Task definition does not have any essential container.";
  }
  const badVolume = volumes.find(({ name = "" }) => !namePattern.test(name));
  if (badVolume !== undefined) {
    return `Invalid volume name '${badVolume.name ?? ""}': up to 255 letters, digits, hyphens and underscores are allowed.`;
  }
  if (new Set(volumes.map(({ name }) => name)).size < volumes.length) {
    return "Volume names must be unique in a task definition.";
  }
  for (const container of containerDefinitions) {
    const violation = containerViolation(container, containerDefinitions, volumes);
    if (violation !== undefined) {
      return violation;
    }
  }
  return undefined;
}

function containerViolation(
  container: GivenContainer,
  all: readonly GivenContainer[],
  volumes: readonly GivenVolume[],
): string | undefined {
  const { name = "", image = "", mountPoints = [], dependsOn = [] } = container;
  if (image === "" || /\s/.test(image)) {
    return `Container.image should not be null or empty (container '${name}').`;
  }
  if (!imagePattern.test(image)) {
    return `Container.image contains invalid characters or is too long (container '${name}'): up to 255 letters, digits and -_:./#@ are allowed.`;
  }
  const unknownVolume = mountPoints.find(
    ({ sourceVolume }) => !volumes.some((each) => each.name === sourceVolume),
  );
  if (unknownVolume !== undefined) {
    return `Unknown volume '${unknownVolume.sourceVolume ?? ""}'.`;
  }
  const targets = mountPoints.map(({ containerPath = "" }) => containerPath);
  if (targets.some((target) => !target.startsWith("/")) || new Set(targets).size < targets.length) {
    return `Mount points of container '${name}' must have absolute container paths, each another.`;
  }
  for (const { containerName, condition = "" } of dependsOn) {
    const dependency = all.find((each) => each.name === containerName);
    if (dependency === undefined || containerName === name) {
      return `Container '${name}' depends on '${containerName ?? ""}', which is not another container of the task definition.`;
    }
    if (condition === "SUCCESS" && dependency.essential !== false) {
      return `Container '${name}' cannot depend on the end of '${containerName ?? ""}': an essential container does not have condition ${condition}.`;
    }
  }
  return undefined;
}

/** Fargate's reason not to run a definition; undefined: it runs it. */
function fargateViolation(definition: Definition): string | undefined {
  const { cpu, memory, networkMode, runtimePlatform } = definition;
  if (networkMode !== "awsvpc") {
    return "Fargate only supports network mode ‘awsvpc’.";
  }
  if (cpu === undefined || memory === undefined) {
    return `Fargate requires that '${cpu === undefined ? "cpu" : "memory"}' be defined at the task level.`;
  }
  const units = cpuUnits(cpu);
  const mib = memoryMib(memory);
  if (units === undefined || mib === undefined || !isFargateSize(units, mib)) {
    return `No Fargate configuration exists for given values: ${cpu} CPU, ${memory} memory. See the Amazon ECS documentation for the valid values.`;
  }
  const { operatingSystemFamily = "LINUX", cpuArchitecture = "X86_64" } = runtimePlatform ?? {};
  if (operatingSystemFamily !== "LINUX" || !["X86_64", "ARM64"].includes(cpuArchitecture)) {
    return `Platform ${operatingSystemFamily}/${cpuArchitecture} is not supported.`;
  }
  for (const container of definition.containerDefinitions ?? []) {
    const violation = fargateContainerViolation(container, definition);
    if (violation !== undefined) {
      return violation;
    }
  }
  for (const volume of definition.volumes ?? []) {
    const violation = volumeViolation(volume);
    if (violation !== undefined) {
      return violation;
    }
  }
  return undefined;
}

function fargateContainerViolation(
  container: GivenContainer,
  { executionRoleArn }: Definition,
): string | undefined {
  const { name = "", stopTimeout = 0, linuxParameters: linux = {} } = container;
  const added = linux.capabilities?.add?.find((capability) => capability !== "SYS_PTRACE");
  if (added !== undefined) {
    return `Fargate does not support adding capability ${added} (container '${name}').`;
  }
  const sysctl = container.systemControls?.find(({ namespace = "" }) => !isSystemControl(namespace));
  if (sysctl !== undefined) {
    return `Fargate does not support system control '${sysctl.namespace ?? ""}' (container '${name}').`;
  }
  if (stopTimeout > 120) {
    return `Timeouts of a container on Fargate are 120 seconds at most (container '${name}').`;
  }
  if (executionRoleArn === undefined) {
    return "Fargate requires task definition to have execution role ARN to support log driver awslogs.";
  }
  return tmpfsViolation(container) ?? logViolation(container);
}

function tmpfsViolation({ name = "", linuxParameters }: GivenContainer): string | undefined {
  for (const { containerPath = "", size = 0, mountOptions = [] } of linuxParameters?.tmpfs ?? []) {
    if (!containerPath.startsWith("/") || size < 1) {
      return `A tmpfs needs an absolute container path and a size (container '${name}').`;
    }
    const option = mountOptions.find((each) => !tmpfsOptions.test(each));
    if (option !== undefined) {
      return `Invalid tmpfs mount option '${option}' (container '${name}').`;
    }
  }
  return undefined;
}

/** The options that the service model's documentation lists. */
const tmpfsOptions =
  /^(defaults|ro|rw|suid|nosuid|dev|nodev|exec|noexec|sync|async|dirsync|remount|mand|nomand|atime|noatime|diratime|nodiratime|bind|rbind|unbindable|runbindable|private|rprivate|shared|rshared|slave|rslave|relatime|norelatime|strictatime|nostrictatime|mode=.*|uid=.*|gid=.*|nr_inodes=.*|nr_blocks=.*|mpol=.*)$/;

const awslogsOptions = new Set([
  "awslogs-region",
  "awslogs-group",
  "awslogs-stream-prefix",
  "mode",
  "max-buffer-size",
]);

function logViolation({ name = "", logConfiguration }: GivenContainer): string | undefined {
  if (logConfiguration === undefined) {
    return undefined;
  }
  const { logDriver = "", options = {} } = logConfiguration;
  if (logDriver !== "awslogs") {
    return `Fargate does not support log driver ${logDriver} (container '${name}').`;
  }
  const missing = ["awslogs-group", "awslogs-region", "awslogs-stream-prefix"].find(
    (option) => !options[option],
  );
  if (missing !== undefined) {
    return `Log driver awslogs requires options: ${missing}`;
  }
  const unknown = Object.keys(options).find((option) => !awslogsOptions.has(option));
  if (unknown !== undefined) {
    return `Log driver awslogs disallows options: ${unknown}`;
  }
  const { mode = "blocking", "max-buffer-size": size = "1m" } = options;
  if (!["blocking", "non-blocking"].includes(mode) || !/^\d+[kmg]?$/i.test(size)) {
    return `Invalid log option mode or max-buffer-size (container '${name}').`;
  }
  return undefined;
}

function volumeViolation({ name = "", efsVolumeConfiguration: efs }: GivenVolume): string | undefined {
  if (efs === undefined) {
    return undefined;
  }
  const { rootDirectory = "/", authorizationConfig: { accessPointId, iam } = {} } = efs;
  if (!/^fs-[0-9a-f]{8,40}$/.test(efs.fileSystemId ?? "")) {
    return `Invalid file system ID '${efs.fileSystemId ?? ""}' (volume '${name}').`;
  }
  const encrypted = efs.transitEncryption === "ENABLED";
  if (accessPointId !== undefined && (!encrypted || !["", "/"].includes(rootDirectory))) {
    return encrypted
      ? "EFS volume's root directory must be omitted or set to / when an access point is used."
      : "EFS volume's transit encryption must be ENABLED when an access point is used.";
  }
  if (iam === "ENABLED" && !encrypted) {
    return "EFS volume's transit encryption must be ENABLED when IAM authorization is used.";
  }
  return undefined;
}

/** Kernel parameters of the network's and the containers' IPC namespaces. */
function isSystemControl(name: string): boolean {
  return (
    /^net\.(ipv4|ipv6|core|netfilter|unix)\./.test(name) ||
    /^fs\.mqueue\./.test(name) ||
    /^kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)$/.test(name)
  );
}
